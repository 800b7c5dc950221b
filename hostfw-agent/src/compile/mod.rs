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
pub mod image;
mod limits;
mod prefix;
mod rows;
mod rule;

use std::collections::BTreeMap;

use hostfw_common::{
    endpoint::{
        Endpoint, EndpointId, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_NO_LINK_HEADER,
        Family,
    },
    policy::{
        Action, PolicyId, PolicyTable, Row, RuleEntry, TABLE_DEFAULT_DENY, TABLE_HAS_LOG, TableId,
    },
    prefix::{PrefixV4, PrefixV6, Service, TABLE_BITS},
    stage::List,
    verdict::Direction,
};

pub use self::limits::{CompileError, Limit};
use self::{
    dimension::{Criteria, classify},
    image::{Image, NamedPolicy},
    prefix::Prefix,
    rows::{Rows, TooManyRows},
    rule::dimensions,
};
use crate::{
    model::{Kind, ObjectRef, RuleAction},
    select::{Governed, SelectedList, SelectedPolicy, Selection},
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
    failsafes::add(&mut image, selection)?;
    Ok(image)
}

fn endpoint_ref(governed: &Governed) -> ObjectRef {
    ObjectRef {
        kind: Kind::HostEndpoint,
        name: governed.endpoint.clone(),
    }
}

fn policy_ref(policy: &SelectedPolicy) -> ObjectRef {
    policy.object.clone()
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
    endpoint_numbers: BTreeMap<&'a str, EndpointId>,
    policy_numbers: BTreeMap<&'a ObjectRef, PolicyId>,
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
        if !disable_invalid_check {
            flags |= FLAG_DROP_INVALID;
            if governed.list(List::PreDnat).has_policy() {
                flags |= FLAG_DROP_INVALID_PRE_DNAT;
            }
        }
        let names = &mut self.image.names.endpoints;
        let id = *self
            .endpoint_numbers
            .entry(&governed.endpoint)
            .or_insert_with(|| {
                names.push(object.clone());
                EndpointId {
                    number: names.len() as u32 - 1,
                }
            });
        let mut tables = [[PolicyTable::default(); 2]; List::COUNT];
        for list in List::ALL {
            tables[list as usize] = self.tables(&object, list, governed.list(list))?;
        }
        let endpoint = Endpoint { id, flags, tables };
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
        let same = |c: &&Compiled<'_>| c.direction == direction && c.selected == selected;
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
        let exceeded = |limit, found, policy: Option<&SelectedPolicy>| CompileError {
            limit,
            found,
            object: object.clone(),
            policy: policy.map(policy_ref),
        };
        let mut flags = if selected.default_deny {
            TABLE_DEFAULT_DENY
        } else {
            0
        };
        let mut entries: Vec<RuleEntry> = Vec::new();
        let mut by_dimension: [Vec<Criteria>; 4] = Default::default();
        let mut overflowing = None;
        for policy in selected.policies() {
            let number = self.policy_number(policy);
            for (index, rule) in policy.rules.iter().enumerate() {
                let Some(found) = dimensions(rule, family) else {
                    continue;
                };
                let action = match rule.action {
                    RuleAction::Allow => Action::Allow,
                    RuleAction::Deny => Action::Deny,
                    RuleAction::Log => Action::Log,
                    RuleAction::Pass => Action::Pass,
                };
                if action == Action::Log {
                    flags |= TABLE_HAS_LOG;
                }
                // A policy has at most 1024 rules in a direction.
                let index = index as u16;
                entries.push(RuleEntry::new(number, index, action, direction));
                let found = [
                    found.source,
                    found.destination,
                    found.service,
                    found.source_port,
                ];
                for (all, one) in by_dimension.iter_mut().zip(found) {
                    all.push(one);
                }
            }
            if entries.len() > Limit::Rules.value() {
                overflowing.get_or_insert(policy);
            }
        }
        if overflowing.is_some() {
            return Err(exceeded(Limit::Rules, entries.len(), overflowing));
        }
        let rule_count = entries.len() as u16;
        if rule_count == 0 {
            // Nothing is looked up, so there is nothing to find.
            return Ok(PolicyTable {
                flags,
                ..PolicyTable::default()
            });
        }

        let too_many = |TooManyRows| exceeded(Limit::Rows, Limit::Rows.value() + 1, None);
        let mut log_row = 0;
        if flags & TABLE_HAS_LOG != 0 {
            let mut logs = Row::EMPTY;
            for (number, entry) in entries.iter().enumerate() {
                if entry.action == Action::Log as u8 {
                    logs.set(number);
                }
            }
            log_row = self.rows.intern(&logs).map_err(too_many)?;
        }
        let table = PolicyTable {
            table: TableId {
                number: self.next_table,
            },
            first_rule: self.image.rules.len() as u32,
            log_row,
            rule_count,
            flags,
        };
        self.next_table += PolicyTable::TABLES;
        self.image.rules.extend(entries);
        let found = self.image.rules.len();
        if found > Limit::RuleEntries.value() {
            return Err(exceeded(Limit::RuleEntries, found, None));
        }

        let [source, destination, service, source_port] = &by_dimension;
        for (number, criteria) in [(table.source(), source), (table.destination(), destination)] {
            let classes = classify(criteria, &mut self.rows).map_err(too_many)?;
            let found = self.add_addresses(TableId { number }, family, &classes);
            if found > Limit::Prefixes.value() {
                return Err(exceeded(Limit::Prefixes, found, None));
            }
        }
        for (number, criteria) in [
            (table.source(), service),
            (table.destination(), source_port),
        ] {
            let classes = classify(criteria, &mut self.rows).map_err(too_many)?;
            let found = self.add_services(TableId { number }, &classes);
            if found > Limit::Prefixes.value() {
                return Err(exceeded(Limit::Prefixes, found, None));
            }
        }
        Ok(table)
    }

    fn policy_number(&mut self, policy: &'a SelectedPolicy) -> PolicyId {
        let names = &mut self.image.names.policies;
        *self
            .policy_numbers
            .entry(&policy.object)
            .or_insert_with(|| {
                names.push(NamedPolicy {
                    object: policy_ref(policy),
                    tier: None,
                    missing: policy.missing,
                });
                PolicyId {
                    number: names.len() as u32 - 1,
                }
            })
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

#[cfg(test)]
mod tests;
