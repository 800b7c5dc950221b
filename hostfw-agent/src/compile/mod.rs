//! From a selection to the contents of maps.
//!
//! Everything that a rule can ask of a packet is a prefix of some bits: a
//! network, a protocol, a port range (as several), an ICMP type. So one
//! classification serves all dimensions; see [`hostfw_common::policy`] for how
//! the tables are read.

#![forbid(unsafe_code)]

mod cache;
mod change;
mod digest;
mod dimension;
pub mod evaluate;
mod failsafes;
#[cfg(test)]
mod fixture;
mod flatten;
pub mod image;
mod index;
mod limits;
mod lines;
mod long;
mod points;
mod prefix;
mod record;
mod rule;
mod set;
mod store;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use hostfw_common::{
    endpoint::{
        Endpoint, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_NO_LINK_HEADER,
        FLAG_WORKLOAD, Family,
    },
    limits::{MAX_ENDPOINTS, MAX_LISTS},
    policy::{
        Action, Dim, ListId, PolicyTable, RuleEntry, TABLE_DEFAULT_DENY, TABLE_HAS_JUMP,
        TABLE_HAS_LOG,
    },
    stage::List,
    verdict::Direction,
};

pub use self::{
    cache::Cache,
    limits::{CompileError, Limit},
};
use self::{
    cache::{Exceeded, Kind},
    digest::{DigestMap, Digester},
    flatten::{Numbers, flatten},
    image::Image,
    record::Bases,
};
use crate::{
    model::{Kind as ObjectKind, ObjectRef},
    select::{Governed, SelectedList, Selection},
};

// Every list of every endpoint may be another one.
const _: () = assert!(MAX_ENDPOINTS * 2 * (List::COUNT as u32) < MAX_LISTS);

/// Compiles what a node is to enforce.
///
/// Equal selections give equal images.
///
/// # Errors
///
/// If the selection exceeds what the dataplane can hold.
pub fn compile(selection: &Selection) -> Result<Image, CompileError> {
    compile_with(selection, &mut Cache::default())
}

/// Compiles what a node is to enforce, with what the compilation before has
/// left. Its images mean what those of [`compile`] do; what has not changed
/// has the numbers that it had.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_with(selection: &Selection, cache: &mut Cache) -> Result<Image, CompileError> {
    if cache.is_sparse() {
        cache.renew();
    }
    let is_new = cache.is_new();
    let mut result = Compiler::new(cache).run(selection);
    // What was there before may have taken the room that this one needs.
    if result
        .as_ref()
        .is_err_and(|error| error.limit.is_of_lines())
        && !is_new
    {
        cache.renew();
        result = Compiler::new(cache).run(selection);
    }
    if result.is_err() {
        cache.renew();
    }
    result
}

fn endpoint_ref(governed: &Governed) -> ObjectRef {
    ObjectRef {
        kind: ObjectKind::HostEndpoint,
        name: governed.endpoint.clone(),
    }
}

/// A list of rules that is compiled, by family.
struct Compiled<'a> {
    direction: Direction,
    selected: &'a SelectedList,
    lists: [ListId; 2],
}

struct Compiler<'a, 'c> {
    cache: &'c mut Cache,
    image: Image,
    lists: Vec<PolicyTable>,
    rules: Vec<RuleEntry>,
    numbers: Numbers<'a>,
    /// By [`sketch`].
    compiled: HashMap<u64, Vec<Compiled<'a>>>,
    /// By direction and where they are.
    same: HashMap<(Direction, *const SelectedList), [ListId; 2]>,
    /// By what they hold.
    contents: DigestMap<ListId>,
}

impl<'a, 'c> Compiler<'a, 'c> {
    fn new(cache: &'c mut Cache) -> Self {
        Self {
            cache,
            image: Image::default(),
            lists: vec![PolicyTable::default()],
            rules: Vec::new(),
            numbers: Numbers::default(),
            compiled: HashMap::new(),
            same: HashMap::new(),
            contents: DigestMap::default(),
        }
    }

    fn run(mut self, selection: &'a Selection) -> Result<Image, CompileError> {
        for (position, governed) in selection.governed.iter().enumerate() {
            let object = endpoint_ref(governed);
            if position >= Limit::Endpoints.value() {
                return Err(CompileError {
                    limit: Limit::Endpoints,
                    found: selection.governed.len(),
                    object,
                    policy: None,
                });
            }
            self.add(governed, object, selection.disable_invalid_check)?;
        }
        let mut image = self.image;
        failsafes::add(&mut image, selection)?;
        image.lists = Arc::new(self.lists);
        image.rules = Arc::new(self.rules);
        image.names = Arc::new(self.numbers.names);
        self.cache.finish(&mut image);
        Ok(image)
    }

    fn add(
        &mut self,
        governed: &'a Governed,
        object: ObjectRef,
        disable_invalid_check: bool,
    ) -> Result<(), CompileError> {
        let mut flags = 0;
        if !governed.interface.link_header {
            flags |= FLAG_NO_LINK_HEADER;
        }
        if governed.workload {
            flags |= FLAG_WORKLOAD;
        }
        if !disable_invalid_check {
            flags |= FLAG_DROP_INVALID;
            if governed.list(List::PreDnat).has_policy() {
                flags |= FLAG_DROP_INVALID_PRE_DNAT;
            }
        }
        let id = self.numbers.endpoint(&governed.endpoint, &object);
        let mut lists = [[ListId::default(); 2]; List::COUNT];
        for list in List::ALL {
            lists[list as usize] = self.lists(&object, list, governed.list(list))?;
        }
        let endpoint = Endpoint {
            id,
            flags,
            lists,
            ..Endpoint::default()
        };
        self.image
            .endpoints
            .insert(governed.interface.index, endpoint);
        Ok(())
    }

    /// A list of policies, by family. Endpoints to which the same policies
    /// apply share it.
    fn lists(
        &mut self,
        object: &ObjectRef,
        list: List,
        selected: &'a SelectedList,
    ) -> Result<[ListId; 2], CompileError> {
        let direction = list.direction();
        let place = (direction, std::ptr::from_ref(selected));
        if let Some(&lists) = self.same.get(&place) {
            return Ok(lists);
        }
        let same = |c: &&Compiled<'_>| c.direction == direction && c.selected == selected;
        let sketch = sketch(selected);
        let alike = self.compiled.get(&sketch).map_or(&[][..], Vec::as_slice);
        let lists = if let Some(compiled) = alike.iter().find(same) {
            compiled.lists
        } else {
            let mut lists = [ListId::default(); 2];
            for family in Family::ALL {
                lists[family as usize] = self.list(object, direction, selected, family)?;
            }
            self.compiled.entry(sketch).or_default().push(Compiled {
                direction,
                selected,
                lists,
            });
            lists
        };
        self.same.insert(place, lists);
        Ok(lists)
    }

    fn list(
        &mut self,
        object: &ObjectRef,
        direction: Direction,
        selected: &'a SelectedList,
        family: Family,
    ) -> Result<ListId, CompileError> {
        let exceeded = |(limit, found): Exceeded| CompileError {
            limit,
            found,
            object: object.clone(),
            policy: None,
        };
        let sets = &mut self.cache.sets;
        let flat = flatten(selected, direction, family, &mut self.numbers, sets);
        if let Some(found) = flat.exceeded() {
            return Err(CompileError {
                policy: flat.overflowing.cloned(),
                ..exceeded(found)
            });
        }
        let mut table = PolicyTable::default();
        if selected.default_deny {
            table.flags |= TABLE_DEFAULT_DENY;
        }
        if flat.has(Action::jumps) {
            table.flags |= TABLE_HAS_JUMP;
        }
        if flat.has(reports) {
            table.flags |= TABLE_HAS_LOG;
        }
        let count = flat.entries.len();
        table.rule_count = count as u16;
        // Without rules nothing is looked up, so there is nothing to find.
        if count > 0 {
            let asked = flat.asked;
            // The rows are needed when what is asked is gone.
            let rows = asked.each_ref().map(|asked| asked.base().to_vec());
            let bases = Bases::new(rows.each_ref().map(Vec::as_slice), count);
            for (asked, dimension) in asked.into_iter().zip(Dim::ALL) {
                let kind = Kind::new(dimension, family);
                let found = self.cache.dimension(kind, asked, &bases, dimension);
                table.dimensions[dimension as usize] = found.map_err(exceeded)?;
            }
            table.first = bases.first();
            table.rows = self.cache.record(&bases).map_err(exceeded)?;
        }
        self.number(table, flat.entries).map_err(exceeded)
    }

    /// The number of a list whose first rule is not known yet.
    fn number(
        &mut self,
        mut table: PolicyTable,
        entries: Vec<RuleEntry>,
    ) -> Result<ListId, Exceeded> {
        if table == PolicyTable::default() {
            return Ok(ListId::default());
        }
        let mut digester = Digester::new(4);
        for dimension in &table.dimensions {
            digester.word(u64::from(dimension.root) << 32 | u64::from(dimension.stride));
            digester.word(dimension.table.number.into());
        }
        digester.word(u64::from(table.rows) << 32 | u64::from(table.flags));
        for entry in &entries {
            let [low, high] = [entry.action, entry.direction].map(u64::from);
            digester.word(u64::from(entry.policy.number) << 32 | u64::from(entry.index));
            digester.word(u64::from(entry.next) << 32 | high << 8 | low);
        }
        let next = ListId {
            number: self.lists.len() as u32,
        };
        let id = *self.contents.entry(digester.finish()).or_insert(next);
        if id == next {
            table.first_rule = self.rules.len() as u32;
            self.rules.extend(entries);
            if self.rules.len() > Limit::RuleEntries.value() {
                return Err((Limit::RuleEntries, self.rules.len()));
            }
            self.lists.push(table);
        }
        Ok(id)
    }
}

/// A number by which most lists that are not equal are told apart, quickly: each
/// endpoint may have one of its own.
fn sketch(selected: &SelectedList) -> u64 {
    let mut hasher = DefaultHasher::new();
    selected.default_deny.hash(&mut hasher);
    for policy in selected.policies() {
        policy.object.name.hash(&mut hasher);
        policy.rules.len().hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether an entry with this action is reported.
const fn reports(action: Action) -> bool {
    match action {
        Action::Log | Action::StagedAllow | Action::StagedDeny | Action::StagedPass => true,
        Action::Allow | Action::Deny | Action::Pass | Action::TierDeny | Action::Skip => false,
    }
}

#[cfg(test)]
mod tests;
