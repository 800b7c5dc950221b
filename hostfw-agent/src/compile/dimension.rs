//! Classification of one dimension: for every prefix that a rule mentions, the
//! rules that accept what has it as its longest match.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    rc::Rc,
};

use hostfw_common::policy::Row;

use super::{
    prefix::Prefix,
    rows::{Rows, TooManyRows, toggle},
};

/// What one rule asks of one dimension. Nothing: it accepts everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Criteria {
    /// Of every list, one must contain the value.
    pub(super) any_of: Vec<Vec<Prefix>>,
    /// None of these may.
    pub(super) none_of: Vec<Prefix>,
}

/// Criteria that can be asked about one value after the other.
pub(super) struct Lookup {
    any_of: Vec<Nested>,
    none_of: Nested,
}

/// Prefixes, and the lengths that some of them have.
struct Nested {
    prefixes: HashSet<Prefix>,
    lengths: BTreeSet<u32>,
}

impl Lookup {
    pub(super) fn new(criteria: &Criteria) -> Self {
        Self {
            any_of: criteria
                .any_of
                .iter()
                .map(|list| Nested::new(list))
                .collect(),
            none_of: Nested::new(&criteria.none_of),
        }
    }

    /// Whether the criteria hold for a single value, which no prefix is longer
    /// than.
    pub(super) fn accepts(&self, value: Prefix) -> bool {
        self.any_of.iter().all(|list| list.contain(value)) && !self.none_of.contain(value)
    }
}

impl Nested {
    fn new(prefixes: &[Prefix]) -> Self {
        Self {
            prefixes: prefixes.iter().copied().collect(),
            lengths: prefixes.iter().map(|prefix| prefix.len()).collect(),
        }
    }

    fn contain(&self, value: Prefix) -> bool {
        let mut lengths = self.lengths.range(..=value.len());
        lengths.any(|&length| self.prefixes.contains(&value.shortened(length)))
    }
}

/// A prefix that rules mention.
struct Mark {
    prefix: Prefix,
    /// Number of the rules that share the criteria.
    sharing: u32,
    /// Number of the any-of list over all criteria, or [`NONE_OF`].
    list: u32,
}

const NONE_OF: u32 = u32::MAX;

/// The prefixes of a table with the numbers of their rows; the first is the
/// one of length 0. A prefix whose row is that of the next shorter one is left
/// out: a look-up finds the same row without it.
///
/// Prefixes are nested or apart, so what has `P` as its longest match lies in
/// exactly those prefixes that contain `P`. One walk down the tree of all
/// prefixes therefore sees every class of values, in the time that sorting
/// takes. `rules` number at most the bits of a row; those that share their
/// criteria are walked as one.
pub(super) fn classify(
    rules: &[Rc<Criteria>],
    rows: &mut Rows,
) -> Result<Vec<(Prefix, u32)>, TooManyRows> {
    let (mut walk, marks) = Walk::new(rules);
    let mut found = Vec::new();
    let mut path: Vec<&[Mark]> = Vec::new();
    let first = marks.partition_point(|mark| mark.prefix == Prefix::ALL);
    let (all, rest) = marks.split_at(first);
    walk.enter(all);
    found.push((Prefix::ALL, rows.intern(&walk.row)?));

    for here in rest.chunk_by(|a, b| a.prefix == b.prefix) {
        let prefix = here[0].prefix;
        while let Some(left) = path.pop_if(|above| !above[0].prefix.contains(prefix)) {
            walk.leave(left);
        }
        if walk.enter(here) {
            found.push((prefix, rows.intern(&walk.row)?));
        }
        path.push(here);
    }
    Ok(found)
}

/// Which criteria hold at a place in the tree.
struct Walk {
    /// The rules whose criteria all hold.
    row: Row,
    /// By any-of list: how many of its prefixes contain the place.
    hits: Vec<u32>,
    /// By the number in the marks.
    sharing: Vec<Sharing>,
}

/// Rules with the same criteria.
struct Sharing {
    /// Their bits.
    rules: Row,
    /// Any-of lists without a hit, and none-of prefixes that contain the
    /// place. The rules accept if it is 0.
    objections: u32,
    /// Whether the row has the rules' bits.
    in_row: bool,
}

impl Walk {
    /// Above all prefixes, and all prefixes in order.
    fn new(rules: &[Rc<Criteria>]) -> (Self, Vec<Mark>) {
        let mut marks = Vec::new();
        let mut lists = 0;
        let mut row = Row::EMPTY;
        let mut sharing: Vec<Sharing> = Vec::new();
        let mut known: HashMap<*const Criteria, usize> = HashMap::new();
        for (number, criteria) in rules.iter().enumerate() {
            let in_row = criteria.any_of.is_empty();
            if in_row {
                row.set(number);
            }
            if in_row && criteria.none_of.is_empty() {
                continue;
            }
            let new = sharing.len();
            match known.entry(Rc::as_ptr(criteria)) {
                Entry::Occupied(known) => {
                    sharing[*known.get()].rules.set(number);
                    continue;
                }
                Entry::Vacant(entry) => entry.insert(new),
            };
            let mut rules = Row::EMPTY;
            rules.set(number);
            sharing.push(Sharing {
                rules,
                objections: criteria.any_of.len() as u32,
                in_row,
            });
            let mark = |list| {
                move |&prefix: &Prefix| Mark {
                    prefix,
                    sharing: new as u32,
                    list,
                }
            };
            for list in &criteria.any_of {
                marks.extend(list.iter().map(mark(lists)));
                lists += 1;
            }
            marks.extend(criteria.none_of.iter().map(mark(NONE_OF)));
        }
        marks.sort_unstable_by_key(|mark| (mark.prefix, mark.sharing, mark.list));
        let walk = Self {
            row,
            hits: vec![0; lists as usize],
            sharing,
        };
        (walk, marks)
    }

    /// Goes into a prefix. Whether that changed the row.
    fn enter(&mut self, marks: &[Mark]) -> bool {
        for mark in marks {
            let objections = &mut self.sharing[mark.sharing as usize].objections;
            if mark.list == NONE_OF {
                *objections += 1;
                continue;
            }
            let hits = &mut self.hits[mark.list as usize];
            *objections -= u32::from(*hits == 0);
            *hits += 1;
        }
        self.update(marks)
    }

    /// Goes out of a prefix again.
    fn leave(&mut self, marks: &[Mark]) {
        for mark in marks {
            let objections = &mut self.sharing[mark.sharing as usize].objections;
            if mark.list == NONE_OF {
                *objections -= 1;
                continue;
            }
            let hits = &mut self.hits[mark.list as usize];
            *hits -= 1;
            *objections += u32::from(*hits == 0);
        }
        self.update(marks);
    }

    fn update(&mut self, marks: &[Mark]) -> bool {
        let mut changed = false;
        for mark in marks {
            let sharing = &mut self.sharing[mark.sharing as usize];
            let accept = sharing.objections == 0;
            if sharing.in_row != accept {
                sharing.in_row = accept;
                toggle(&mut self.row, &sharing.rules);
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hostfw_common::endpoint::Family;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<Prefix> {
        texts
            .iter()
            .map(|text| Prefix::net(&text.parse().unwrap(), Family::V4).unwrap())
            .collect()
    }

    /// `prefix` with the numbers of the rules that accept it.
    fn table(rules: &[Criteria]) -> Vec<(String, Vec<usize>)> {
        let mut rows = Rows::default();
        let shared: Vec<_> = rules.iter().cloned().map(Rc::new).collect();
        let found = classify(&shared, &mut rows).unwrap();
        let rows = rows.into_vec();
        found
            .into_iter()
            .map(|(prefix, row)| {
                let [a, b, c, d] = prefix.to_v4();
                let accepting = (0..rules.len())
                    .filter(|&rule| rows[row as usize].contains(rule))
                    .collect();
                (format!("{a}.{b}.{c}.{d}/{}", prefix.len()), accepting)
            })
            .collect()
    }

    fn entry(prefix: &str, rules: &[usize]) -> (String, Vec<usize>) {
        (prefix.to_owned(), rules.to_vec())
    }

    #[test]
    fn without_rules_the_table_has_its_entry_all_the_same() {
        assert_eq!(table(&[]), [entry("0.0.0.0/0", &[])]);
    }

    #[test]
    fn nested_prefixes_of_several_rules() {
        let rules = [
            Criteria {
                any_of: vec![nets(&["10.0.0.0/8"])],
                none_of: nets(&["10.1.0.0/16"]),
            },
            Criteria::default(),
            Criteria {
                any_of: vec![nets(&["10.1.2.0/24", "192.0.2.0/24"])],
                none_of: Vec::new(),
            },
            Criteria {
                any_of: Vec::new(),
                none_of: nets(&["192.0.2.7/32"]),
            },
        ];
        assert_eq!(
            table(&rules),
            [
                entry("0.0.0.0/0", &[1, 3]),
                entry("10.0.0.0/8", &[0, 1, 3]),
                entry("10.1.0.0/16", &[1, 3]),
                entry("10.1.2.0/24", &[1, 2, 3]),
                entry("192.0.2.0/24", &[1, 2, 3]),
                entry("192.0.2.7/32", &[1, 2]),
            ]
        );
    }

    #[test]
    fn every_any_of_list_must_be_hit() {
        let rules = [Criteria {
            any_of: vec![nets(&["10.0.0.0/8"]), nets(&["10.1.0.0/16", "0.0.0.0/4"])],
            none_of: Vec::new(),
        }];
        assert_eq!(
            table(&rules),
            // All of 0.0.0.0/4 is in the second list, but only the 10.0.0.0/8
            // in it is in the first; 10.1.0.0/16 changes nothing.
            [entry("0.0.0.0/0", &[]), entry("10.0.0.0/8", &[0])]
        );
        let never = [Criteria {
            any_of: vec![nets(&["0.0.0.0/0"]), Vec::new()],
            none_of: Vec::new(),
        }];
        assert_eq!(table(&never), [entry("0.0.0.0/0", &[])]);
    }

    #[test]
    fn repeated_prefixes_count_once_and_a_none_of_wins() {
        let rules = [Criteria {
            any_of: vec![nets(&["10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16"])],
            none_of: nets(&["10.0.0.0/16", "10.0.0.0/16"]),
        }];
        assert_eq!(
            table(&rules),
            [
                entry("0.0.0.0/0", &[]),
                entry("10.0.0.0/8", &[0]),
                entry("10.0.0.0/16", &[]),
            ]
        );
        let denied = [Criteria {
            any_of: Vec::new(),
            none_of: nets(&["0.0.0.0/0"]),
        }];
        assert_eq!(table(&denied), [entry("0.0.0.0/0", &[])]);
    }

    #[test]
    fn a_lookup_accepts_what_every_list_has_and_no_exception() {
        let lookup = Lookup::new(&Criteria {
            any_of: vec![nets(&["10.0.0.0/8", "192.0.2.1/32"]), nets(&["0.0.0.0/1"])],
            none_of: nets(&["10.1.0.0/16"]),
        });
        let accepts = |address: &str| lookup.accepts(nets(&[address])[0]);
        assert!(accepts("10.2.0.1/32"));
        assert!(!accepts("10.1.0.1/32"), "an exception");
        assert!(!accepts("192.0.2.1/32"), "in one list only");
        assert!(!accepts("172.16.0.1/32"), "in no list");
        assert!(Lookup::new(&Criteria::default()).accepts(Prefix::ALL));
    }

    #[test]
    fn many_prefixes_are_classified_without_comparing_pairs() {
        let run = |count: u32| {
            let prefixes = (0..count)
                .map(|n| {
                    let net = std::net::Ipv4Addr::from_bits(n << 8);
                    let net = ipnet::Ipv4Net::new(net, 24).unwrap();
                    Prefix::net(&net.into(), Family::V4).unwrap()
                })
                .collect();
            let criteria = Rc::new(Criteria {
                any_of: vec![prefixes],
                none_of: Vec::new(),
            });
            // As many entries as a rule can be split into cost no more.
            let rules = vec![criteria; 4096];
            let start = Instant::now();
            let found = classify(&rules, &mut Rows::default()).unwrap();
            assert_eq!(found.len(), count as usize + 1);
            start.elapsed()
        };
        // A pair-wise comparison of so many would take minutes.
        assert!(run(100_000) < Duration::from_secs(20));
    }
}
