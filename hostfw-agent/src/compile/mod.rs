//! From a selection to the contents of maps.
//!
//! Everything that a rule can ask of a packet is a prefix of some bits: a
//! network, a protocol, a port range (as several), an ICMP type. So one
//! classification serves all dimensions; see [`hostfw_common::policy`] for how
//! the tables are read.

#![forbid(unsafe_code)]

mod dimension;
pub mod evaluate;
mod failsafes;
#[cfg(test)]
mod fixture;
mod flatten;
pub mod image;
mod limits;
mod points;
mod prefix;
mod rows;
mod rule;

use std::ptr;

use hostfw_common::{
    endpoint::{
        Endpoint, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_NO_LINK_HEADER,
        FLAG_WORKLOAD, Family,
    },
    policy::{
        Action, PolicyTable, Row, TABLE_DEFAULT_DENY, TABLE_HAS_JUMP, TABLE_HAS_LOG, TableId,
    },
    prefix::{PrefixV4, PrefixV6, Service, TABLE_BITS},
    stage::List,
    verdict::Direction,
};

pub use self::limits::{CompileError, Limit};
use self::{
    dimension::classify,
    flatten::{Flat, Numbers, flatten},
    image::Image,
    prefix::Prefix,
    rows::{Rows, TooManyRows},
};
use crate::{
    model::{Kind, ObjectRef},
    select::{Governed, SelectedList, Selection},
};

/// Compiles what a node is to enforce.
///
/// Equal selections give equal images.
///
/// # Errors
///
/// If the selection exceeds what the dataplane can hold.
pub fn compile(selection: &Selection) -> Result<Image, CompileError> {
    let mut compiler = Compiler::default();
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
        compiler.add(governed, object, selection.disable_invalid_check)?;
    }
    let mut image = compiler.image;
    image.rows = compiler.rows.into_vec();
    image.names = compiler.numbers.names;
    failsafes::add(&mut image, selection)?;
    Ok(image)
}

fn endpoint_ref(governed: &Governed) -> ObjectRef {
    ObjectRef {
        kind: Kind::HostEndpoint,
        name: governed.endpoint.clone(),
    }
}

/// A list of rules that is compiled, and its tables by family.
struct Compiled<'a> {
    direction: Direction,
    selected: &'a SelectedList,
    tables: [PolicyTable; 2],
}

#[derive(Default)]
struct Compiler<'a> {
    image: Image,
    rows: Rows,
    next_table: u32,
    numbers: Numbers<'a>,
    compiled: Vec<Compiled<'a>>,
}

impl<'a> Compiler<'a> {
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
        let mut tables = [[PolicyTable::default(); 2]; List::COUNT];
        for list in List::ALL {
            tables[list as usize] = self.tables(&object, list, governed.list(list))?;
        }
        let endpoint = Endpoint {
            id,
            flags,
            tables,
            ..Endpoint::default()
        };
        self.image
            .endpoints
            .insert(governed.interface.index, endpoint);
        Ok(())
    }

    /// The tables of a list of policies, by family. Endpoints to which the
    /// same policies apply share them.
    fn tables(
        &mut self,
        object: &ObjectRef,
        list: List,
        selected: &'a SelectedList,
    ) -> Result<[PolicyTable; 2], CompileError> {
        let direction = list.direction();
        let same = |c: &&Compiled<'_>| {
            let same_place = ptr::eq(c.selected, selected);
            c.direction == direction && (same_place || c.selected == selected)
        };
        if let Some(compiled) = self.compiled.iter().find(same) {
            return Ok(compiled.tables);
        }
        let mut tables = [PolicyTable::default(); 2];
        for family in Family::ALL {
            tables[family as usize] = self.table(object, direction, selected, family)?;
        }
        self.compiled.push(Compiled {
            direction,
            selected,
            tables,
        });
        Ok(tables)
    }

    fn table(
        &mut self,
        object: &ObjectRef,
        direction: Direction,
        selected: &'a SelectedList,
        family: Family,
    ) -> Result<PolicyTable, CompileError> {
        let exceeded = |limit, found| CompileError {
            limit,
            found,
            object: object.clone(),
            policy: None,
        };
        let too_many = |TooManyRows| exceeded(Limit::Rows, Limit::Rows.value() + 1);
        let flat = flatten(selected, direction, family, &mut self.numbers);
        if flat.found > Limit::Rules.value() {
            return Err(CompileError {
                policy: flat.overflowing.cloned(),
                ..exceeded(Limit::Rules, flat.found)
            });
        }
        let mut table = PolicyTable::default();
        if selected.default_deny {
            table.flags |= TABLE_DEFAULT_DENY;
        }
        if flat.entries.is_empty() {
            // Nothing is looked up, so there is nothing to find.
            return Ok(table);
        }
        if flat.has(Action::jumps) {
            table.flags |= TABLE_HAS_JUMP;
        }
        if flat.has(|action| action == Action::Log) {
            table.flags |= TABLE_HAS_LOG;
            table.log_row = self.rows.intern(&logs(&flat)).map_err(too_many)?;
        }
        table.table.number = self.next_table;
        self.next_table += PolicyTable::TABLES;
        table.rule_count = flat.entries.len() as u16;
        table.first_rule = self.image.rules.len() as u32;
        let found = self.image.rules.len() + flat.entries.len();
        if found > Limit::RuleEntries.value() {
            return Err(exceeded(Limit::RuleEntries, found));
        }
        self.image.rules.extend(flat.entries);

        for (number, criteria) in [
            (table.source(), flat.source),
            (table.destination(), flat.destination),
        ] {
            let classes = classify(&criteria, &mut self.rows).map_err(too_many)?;
            let found = self.add_addresses(TableId { number }, family, &classes);
            if found > Limit::Prefixes.value() {
                return Err(exceeded(Limit::Prefixes, found));
            }
        }
        for (number, criteria) in [
            (table.source(), flat.service),
            (table.destination(), flat.source_port),
        ] {
            let classes = classify(&criteria, &mut self.rows).map_err(too_many)?;
            let found = self.add_services(TableId { number }, &classes);
            if found > Limit::Prefixes.value() {
                return Err(exceeded(Limit::Prefixes, found));
            }
        }
        Ok(table)
    }

    /// Writes a table's classes. How many prefixes the trie then has.
    fn add_addresses(
        &mut self,
        table: TableId,
        family: Family,
        classes: &[(Prefix, u32)],
    ) -> usize {
        match family {
            Family::V4 => {
                let trie = &mut self.image.prefixes_v4;
                trie.extend(classes.iter().map(|&(prefix, row)| {
                    let address = prefix.to_v4();
                    let key = PrefixV4 { table, address };
                    ((TABLE_BITS + prefix.len(), key), row)
                }));
                trie.len()
            }
            Family::V6 => {
                let trie = &mut self.image.prefixes_v6;
                trie.extend(classes.iter().map(|&(prefix, row)| {
                    let address = prefix.to_v6();
                    let key = PrefixV6 { table, address };
                    ((TABLE_BITS + prefix.len(), key), row)
                }));
                trie.len()
            }
        }
    }

    /// Writes a table's classes. How many prefixes the trie then has.
    fn add_services(&mut self, table: TableId, classes: &[(Prefix, u32)]) -> usize {
        let trie = &mut self.image.services;
        trie.extend(classes.iter().map(|&(prefix, row)| {
            let (protocol, port) = prefix.to_service();
            let key = Service {
                table,
                protocol,
                port,
                _pad: 0,
            };
            ((TABLE_BITS + prefix.len(), key), row)
        }));
        trie.len()
    }
}

/// The bits of the rules that only report.
fn logs(flat: &Flat<'_>) -> Row {
    let mut logs = Row::EMPTY;
    for (number, entry) in flat.entries.iter().enumerate() {
        if entry.action == Action::Log as u8 {
            logs.set(number);
        }
    }
    logs
}

#[cfg(test)]
mod tests;
