//! What governs an interface, as the programs at the wire have last found it.
//!
//! Packet after packet comes through the same few interfaces. What their look-ups
//! lead to is the same for all packets of a generation, so each CPU keeps it.

use core::hint::black_box;

use hostfw_common::{
    endpoint::{Endpoint, Family},
    limits,
    policy::PolicyTable,
    stage::List,
    verdict::Direction,
};

use crate::{
    judge,
    maps::{KNOWN, LISTS, slot},
    parse::Headers,
    report::Origin,
};

/// What a program at the wire has for the interface that it is at: one for each
/// CPU and direction.
///
/// Programs at the wire run with bottom halves disabled, so that none interrupts
/// another one of its direction; see [`Search`](crate::search::Search).
pub(crate) struct Place {
    known: Known,
    work: Work,
}

/// What is kept of a packet while it is looked at: more than there is room for on
/// the stack.
pub(crate) struct Work {
    pub(crate) headers: Headers,
    pub(crate) origin: Origin,
}

/// An interface, with the lists of rules that a program at the wire may ask.
#[repr(C)]
pub(crate) struct Known {
    /// Whose tables these are; 0: nothing is known.
    generation: u64,
    interface: u32,
    /// Not 0: all lists were there.
    complete: u32,
    pub(crate) endpoint: Endpoint,
    /// Of untracked policy and of the stage behind it, each by family.
    tables: [PolicyTable; 4],
}

/// What governs an interface, for the program of a direction, and room to work.
#[inline(always)]
pub(crate) fn known(
    generation: u64,
    interface: u32,
    direction: Direction,
) -> Option<(&'static Known, &'static mut Work)> {
    let place = KNOWN.get_ptr_mut(place(interface, direction))?;
    // SAFETY: this CPU's own; see `Place`.
    let (of, at) = unsafe { ((*place).known.generation, (*place).known.interface) };
    let known = of == generation && at == interface && generation != 0;
    if !known && hostfw_learn(generation, interface, direction as u32) == 0 {
        return None;
    }
    // SAFETY: as above; nothing changes it from here on.
    Some(unsafe { (&(*place).known, &mut (*place).work) })
}

impl Known {
    /// The list of rules, by the packet's family; `None` if the tables are
    /// broken.
    #[inline(always)]
    pub(crate) fn table(&self, headers: &Headers, list: List) -> Option<&PolicyTable> {
        let untracked = matches!(list, List::UntrackedIn | List::UntrackedOut);
        let index = usize::from(!untracked) * 2 + headers.family() as usize;
        // The mask is for the verifier.
        (self.complete != 0).then(|| &self.tables[black_box(index) & 3])
    }
}

/// The place of an interface in the table.
#[inline(always)]
const fn place(interface: u32, direction: Direction) -> u32 {
    interface % limits::KNOWN_INTERFACES * 2 + direction as u32
}

/// Looks up what governs an interface. 0: nothing does. Global to the verifier,
/// see [`judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_learn(generation: u64, interface: u32, direction: u32) -> u32 {
    let direction = if direction == Direction::Ingress as u32 {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let Some(endpoint) = judge::endpoint(generation, interface) else {
        return 0;
    };
    let Some(place) = KNOWN.get_ptr_mut(place(interface, direction)) else {
        return 0;
    };
    // SAFETY: this CPU's own; see `Place`.
    let known = unsafe { &mut (*place).known };
    known.generation = generation;
    known.interface = interface;
    known.endpoint = *endpoint;
    let lists = match direction {
        Direction::Ingress => [List::UntrackedIn, List::PreDnat],
        Direction::Egress => [List::UntrackedOut, List::NormalOut],
    };
    let mut complete = 1;
    for (which, list) in lists.into_iter().enumerate() {
        for family in Family::ALL {
            let number = endpoint.lists[list as usize][family as usize].number;
            match LISTS.get_value(slot(generation), &number) {
                Some(table) => known.tables[which * 2 + family as usize] = *table,
                None => complete = 0,
            }
        }
    }
    known.complete = complete;
    1
}
