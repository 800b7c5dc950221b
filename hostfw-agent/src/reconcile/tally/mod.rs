//! How many packets each rule has met.
//!
//! The programs have a row of counters ([`RULE_COUNTERS`]) that belong to no
//! generation. Each list of an endpoint has a block of them, a counter for each of
//! its entries, for as long as its entries stand for the same rules: whatever else
//! changes, the counts simply go on. When they stand for others, the list gets
//! another block. Once no packet is judged by the generation before any more, what
//! the old block has counted is added to what is known of each of its rules, and its
//! counters are free.
//!
//! Nobody sets a counter back, for a write from here would undo what the programs
//! count meanwhile beside it: what it held when it became free is taken off.
//!
//! [`RULE_COUNTERS`]: hostfw_common::names::RULE_COUNTERS

mod room;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map},
    sync::Arc,
};

use hostfw_common::{
    counter::{Counter, CounterBlock, PAGE_COUNTERS},
    endpoint::{Endpoint, FLAG_WORKLOAD, Family},
    limits::MAX_RULE_COUNTERS,
    policy::{Action, ListId, RuleEntry},
    stage::List,
    verdict::Direction,
};

use self::{
    room::Room,
    rules::{Numbered, RuleId, Rules},
};
use crate::{
    compile::image::{Image, Names},
    model::{Kind, ObjectRef},
    observe::{
        counters::direction_name,
        rules::{PolicyCount, RuleCount, RuleCounts},
        status::Warning,
    },
    validate::Object,
};

/// A page of counters, all CPUs together.
pub(super) type Page = [Counter; PAGE_COUNTERS as usize];

/// Who has a block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    endpoint: String,
    /// A `*` endpoint has lists of its own for interfaces of workloads.
    workload: bool,
    list: List,
    family: Family,
}

/// What an entry of a list stands for.
#[derive(Clone, Debug)]
struct Entry {
    /// `None`: a part of a rule at which nothing is counted.
    rule: Option<RuleId>,
    label: Arc<Label>,
    /// The rule's place in its policy; `None` for the default of a tier.
    path: Option<(Direction, u16)>,
}

/// What verdicts are added up by, beside the stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    kind: &'static str,
    tier: Option<String>,
    name: String,
    action: &'static str,
}

#[derive(Debug)]
struct Block {
    owner: Owner,
    first: u32,
    entries: Arc<[Entry]>,
    /// The image that was prepared last counts here.
    wanted: bool,
    /// The first generation that does not.
    retired: Option<u64>,
}

/// What is counted, beside the blocks: where, by which rule. Of rules that are gone
/// only the sum is kept, for metrics must not go back.
type Place = (Option<(String, RuleId)>, List, Arc<Label>);

/// The counters of rules, and who has them.
#[derive(Debug)]
pub(super) struct Tally {
    room: Room,
    /// What each counter held when it became free.
    base: Vec<Counter>,
    rules: Rules,
    blocks: Vec<Block>,
    collected: BTreeMap<Place, Counter>,
    /// Entries of lists for which there was no room.
    not_counted: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self::of(MAX_RULE_COUNTERS)
    }
}

impl Tally {
    fn of(size: u32) -> Self {
        Self {
            room: Room::of(size),
            base: vec![Counter::default(); size as usize],
            rules: Rules::default(),
            blocks: Vec::new(),
            collected: BTreeMap::new(),
            not_counted: 0,
        }
    }

    /// Says in an image that is to be enforced where its lists are counted.
    /// `object` gives the policies and profiles that it was made from.
    pub(super) fn prepare(
        &mut self,
        image: &mut Image,
        object: impl Fn(&ObjectRef) -> Option<Object>,
    ) {
        let (numbered, changed) = self.rules.update(&image.names, object);
        if changed {
            self.forget_gone(&image.names);
        }
        let mut endpoints = std::mem::take(&mut image.endpoints);
        let mut lists = Lists::new(image, numbered);
        let mut former: BTreeMap<Owner, Vec<usize>> = BTreeMap::new();
        for (at, block) in self.blocks.iter_mut().enumerate() {
            block.wanted = false;
            former.entry(block.owner.clone()).or_default().push(at);
        }
        self.not_counted = 0;
        let mut found: BTreeMap<Owner, CounterBlock> = BTreeMap::new();
        for endpoint in endpoints.values_mut() {
            let name = lists.image.names.endpoint(endpoint.id);
            let name = name.map_or("", |object| object.name.as_str());
            endpoint.counters = Endpoint::default().counters;
            for list in List::ALL {
                for family in Family::ALL {
                    let number = endpoint.lists[list as usize][family as usize];
                    if number == ListId::EMPTY {
                        continue;
                    }
                    let owner = Owner {
                        endpoint: name.to_owned(),
                        workload: endpoint.flags & FLAG_WORKLOAD != 0,
                        list,
                        family,
                    };
                    let block = match found.get(&owner) {
                        Some(&block) => block,
                        None => {
                            let entries = &lists.entries(number);
                            let former = former.get(&owner).map_or(&[][..], Vec::as_slice);
                            let block = self.block(owner.clone(), former, entries);
                            found.insert(owner, block);
                            block
                        }
                    };
                    endpoint.counters[list as usize][family as usize] = block;
                }
            }
        }
        image.endpoints = endpoints;
    }

    /// The block of a list: one of those that its owner has, or a new one.
    fn block(&mut self, owner: Owner, former: &[usize], entries: &Arc<[Entry]>) -> CounterBlock {
        let same = |block: &Block| {
            block.entries.len() == entries.len()
                && block
                    .entries
                    .iter()
                    .zip(entries.iter())
                    .all(|(one, other)| one.rule == other.rule)
        };
        if let Some(&at) = former.iter().find(|&&at| same(&self.blocks[at])) {
            let block = &mut self.blocks[at];
            // They may have other places in their policies.
            block.entries = Arc::clone(entries);
            block.wanted = true;
            block.retired = None;
            return CounterBlock::beginning(block.first);
        }
        let count = entries.len() as u32;
        if count == 0 {
            return CounterBlock::NONE;
        }
        let Some(first) = self.room.take(count) else {
            self.not_counted += u64::from(count);
            return CounterBlock::NONE;
        };
        self.blocks.push(Block {
            owner,
            first,
            entries: Arc::clone(entries),
            wanted: true,
            retired: None,
        });
        CounterBlock::beginning(first)
    }

    /// The image that was prepared last is in force, as this generation.
    pub(super) fn switched(&mut self, generation: u64) {
        for block in &mut self.blocks {
            if !block.wanted && block.retired.is_none() {
                block.retired = Some(generation);
            }
        }
    }

    /// Frees the blocks in which nothing counts any more. `settled`: no packet is
    /// judged by a generation before this one, which is in force.
    ///
    /// # Errors
    ///
    /// If counters cannot be read. They stay as they are.
    pub(super) fn collect<E>(
        &mut self,
        generation: u64,
        settled: bool,
        read: impl FnMut(u32) -> Result<Page, E>,
    ) -> Result<(), E> {
        // Of those before, the last switch has waited for the end.
        let over = |block: &Block| {
            let retired = block.retired.filter(|_| !block.wanted);
            retired.is_some_and(|since| since < generation || settled && since == generation)
        };
        let mut reader = Reader::new(read);
        let mut at = 0;
        while let Some(block) = self.blocks.get(at) {
            if !over(block) {
                at += 1;
                continue;
            }
            let counts = reader.block(block)?;
            let block = self.blocks.swap_remove(at);
            for (count, counter) in counts.into_iter().zip(block.first..) {
                let since = since(count, self.base[counter as usize]);
                self.base[counter as usize] = count;
                let entry = &block.entries[(counter - block.first) as usize];
                if let (Some(rule), true) = (entry.rule, since != Counter::default()) {
                    let place = (
                        Some((block.owner.endpoint.clone(), rule)),
                        block.owner.list,
                        Arc::clone(&entry.label),
                    );
                    add(self.collected.entry(place).or_default(), since);
                }
            }
            self.room.give(block.first, block.entries.len() as u32);
        }
        Ok(())
    }

    /// Of rules that are gone, only the sums by policy are kept, and these as long
    /// as there is the policy.
    fn forget_gone(&mut self, names: &Names) {
        let alive = self.rules.alive();
        let known: BTreeSet<(&str, Option<&str>, &str)> = names
            .policies
            .iter()
            .map(|policy| {
                let tier = policy.tier.and_then(|tier| names.tier(tier));
                (policy.object.kind.name(), tier, policy.object.name.as_str())
            })
            .chain(names.tiers.iter().map(|tier| tier_label(tier)))
            .collect();
        for ((rule, list, label), count) in std::mem::take(&mut self.collected) {
            if !known.contains(&(label.kind, label.tier.as_deref(), label.name.as_str())) {
                continue;
            }
            let rule = rule.filter(|(_, rule)| alive.contains(rule));
            add(
                self.collected.entry((rule, list, label)).or_default(),
                count,
            );
        }
    }

    /// How many entries of lists are not counted, for there is no room.
    pub(super) const fn not_counted(&self) -> u64 {
        self.not_counted
    }

    /// What to tell if not all is counted.
    pub(super) fn warning(&self) -> Option<Warning> {
        (self.not_counted > 0).then(|| Warning {
            object: "counters of rules".to_owned(),
            message: format!(
                "{} rules, by endpoint, stage, direction and IP version, are enforced and not \
                 counted: there are counters for {MAX_RULE_COUNTERS}",
                self.not_counted
            ),
        })
    }

    /// What each rule in force has counted, by endpoint.
    ///
    /// # Errors
    ///
    /// If counters cannot be read.
    pub(super) fn counts<E>(
        &self,
        read: impl FnMut(u32) -> Result<Page, E>,
    ) -> Result<RuleCounts, E> {
        type Key<'a> = (&'a str, List, RuleId);
        let mut sums: BTreeMap<Key<'_>, (Option<&Entry>, Counter)> = BTreeMap::new();
        for ((rule, list, _), count) in &self.collected {
            if let Some((endpoint, rule)) = rule {
                add(
                    &mut sums.entry((endpoint, *list, *rule)).or_default().1,
                    *count,
                );
            }
        }
        let mut reader = Reader::new(read);
        let mut order = Vec::new();
        for block in &self.blocks {
            for (entry, count) in block.entries.iter().zip(self.since(block, &mut reader)?) {
                let Some(rule) = entry.rule else { continue };
                let key = (block.owner.endpoint.as_str(), block.owner.list, rule);
                let (told, sum) = sums.entry(key).or_default();
                add(sum, count);
                if block.wanted && told.is_none() {
                    *told = Some(entry);
                    order.push(key);
                }
            }
        }
        // Blocks lie in no order; the rules of a list do.
        order.sort_by_key(|&(endpoint, list, _)| (endpoint, list));
        let rules = order.iter().filter_map(|key| {
            let (told, sum) = sums[key];
            Some(rule_count(key.0, key.1, told?, sum))
        });
        Ok(RuleCounts {
            rules: rules.collect(),
            not_counted: self.not_counted,
        })
    }

    /// What policies have counted by stage, those of their rules that are gone
    /// included.
    ///
    /// # Errors
    ///
    /// If counters cannot be read.
    pub(super) fn by_policy<E>(
        &self,
        read: impl FnMut(u32) -> Result<Page, E>,
    ) -> Result<Vec<PolicyCount>, E> {
        let mut sums: BTreeMap<(&'static str, &Label), Counter> = BTreeMap::new();
        for ((_, list, label), count) in &self.collected {
            add(
                sums.entry((list.stage().name(), label)).or_default(),
                *count,
            );
        }
        let mut reader = Reader::new(read);
        for block in &self.blocks {
            let stage = block.owner.list.stage().name();
            for (entry, count) in block.entries.iter().zip(self.since(block, &mut reader)?) {
                if entry.rule.is_some() {
                    add(sums.entry((stage, &entry.label)).or_default(), count);
                }
            }
        }
        let counts = sums.into_iter().map(|((stage, label), sum)| PolicyCount {
            stage,
            tier: label.tier.clone().unwrap_or_default(),
            policy: if label.kind == Kind::Tier.name() {
                String::new()
            } else {
                label.name.clone()
            },
            action: label.action,
            packets: sum.packets,
            bytes: sum.bytes,
        });
        Ok(counts.collect())
    }

    /// What a block has counted so far, by entry.
    fn since<E, R: FnMut(u32) -> Result<Page, E>>(
        &self,
        block: &Block,
        reader: &mut Reader<R>,
    ) -> Result<Vec<Counter>, E> {
        let counts = reader.block(block)?;
        let base = &self.base[block.first as usize..];
        let counts = counts.into_iter().zip(base);
        Ok(counts.map(|(count, base)| since(count, *base)).collect())
    }
}

/// Reads each page once.
struct Reader<R> {
    read: R,
    pages: HashMap<u32, Page>,
}

impl<R> Reader<R> {
    fn new(read: R) -> Self {
        Self {
            read,
            pages: HashMap::new(),
        }
    }

    /// What the counters of a block hold.
    fn block<E>(&mut self, block: &Block) -> Result<Vec<Counter>, E>
    where
        R: FnMut(u32) -> Result<Page, E>,
    {
        let counters = block.first..block.first + block.entries.len() as u32;
        let mut counts = Vec::with_capacity(block.entries.len());
        for counter in counters {
            let number = counter / PAGE_COUNTERS;
            let page = match self.pages.entry(number) {
                hash_map::Entry::Occupied(page) => page.into_mut(),
                hash_map::Entry::Vacant(place) => place.insert((self.read)(number)?),
            };
            counts.push(page[(counter % PAGE_COUNTERS) as usize]);
        }
        Ok(counts)
    }
}

/// The lists of an image, in words. Each is made when it is asked for first.
struct Lists<'a> {
    image: &'a Image,
    numbered: Numbered,
    labels: HashMap<(u32, u8), Arc<Label>>,
    made: HashMap<ListId, Arc<[Entry]>>,
}

impl<'a> Lists<'a> {
    fn new(image: &'a Image, numbered: Numbered) -> Self {
        Self {
            image,
            numbered,
            labels: HashMap::new(),
            made: HashMap::new(),
        }
    }

    fn entries(&mut self, number: ListId) -> Arc<[Entry]> {
        if let Some(made) = self.made.get(&number) {
            return Arc::clone(made);
        }
        let image = self.image;
        let list = image.list(number);
        let rules = list.and_then(|list| image.rules_of(list));
        let entries = rules.unwrap_or_default().iter();
        let entries: Arc<[Entry]> = entries.map(|rule| self.entry(rule)).collect();
        self.made.insert(number, Arc::clone(&entries));
        entries
    }

    fn entry(&mut self, rule: &RuleEntry) -> Entry {
        let number = rule.policy.number;
        let labels = self.labels.entry((number, rule.action));
        let label = labels.or_insert_with(|| Arc::new(label(rule, &self.image.names)));
        let direction = if rule.direction == Direction::Ingress as u8 {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let (id, path) = match Action::from_number(rule.action) {
            Some(Action::Skip) | None => (None, None),
            Some(Action::TierDeny) => (self.numbered.tier(number), None),
            Some(_) => (
                self.numbered.rule(number, direction, rule.index),
                Some((direction, rule.index)),
            ),
        };
        Entry {
            rule: id,
            label: Arc::clone(label),
            path,
        }
    }
}

fn label(rule: &RuleEntry, names: &Names) -> Label {
    let action = Action::from_number(rule.action);
    if action == Some(Action::TierDeny) {
        let (kind, tier, name) = tier_label(names.tier(rule.policy.number).unwrap_or_default());
        return Label {
            kind,
            tier: tier.map(str::to_owned),
            name: name.to_owned(),
            action: "deny",
        };
    }
    let object = names.policy(rule.policy);
    Label {
        kind: object.map_or("", |object| object.kind.name()),
        tier: names.tier_of(rule.policy).map(str::to_owned),
        name: object.map(|object| object.name.clone()).unwrap_or_default(),
        action: match action {
            Some(Action::Allow) => "allow",
            Some(Action::Deny | Action::TierDeny) => "deny",
            Some(Action::Log) => "log",
            Some(Action::Pass) => "pass",
            Some(Action::StagedAllow) => "would-allow",
            Some(Action::StagedDeny) => "would-deny",
            Some(Action::StagedPass) => "would-pass",
            Some(Action::Skip) | None => "",
        },
    }
}

/// What stands for the default of a tier: kind, tier and name.
fn tier_label(tier: &str) -> (&'static str, Option<&str>, &str) {
    (Kind::Tier.name(), Some(tier), tier)
}

fn rule_count(endpoint: &str, list: List, entry: &Entry, sum: Counter) -> RuleCount {
    let name = direction_name;
    RuleCount {
        endpoint: endpoint.to_owned(),
        stage: list.stage().name().to_owned(),
        direction: name(list.direction()).to_owned(),
        kind: entry.label.kind.to_owned(),
        tier: entry.label.tier.clone(),
        name: entry.label.name.clone(),
        rule: entry
            .path
            .map(|(direction, index)| format!("{}[{index}]", name(direction))),
        action: entry.label.action.to_owned(),
        packets: sum.packets,
        bytes: sum.bytes,
    }
}

fn since(count: Counter, base: Counter) -> Counter {
    Counter {
        packets: count.packets.wrapping_sub(base.packets),
        bytes: count.bytes.wrapping_sub(base.bytes),
    }
}

fn add(sum: &mut Counter, count: Counter) {
    sum.packets = sum.packets.wrapping_add(count.packets);
    sum.bytes = sum.bytes.wrapping_add(count.bytes);
}

#[cfg(test)]
mod tests;
