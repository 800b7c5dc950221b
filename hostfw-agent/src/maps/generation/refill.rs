//! One image after another in the same maps, for programs that only judge test
//! runs.
//!
//! [`Generations::switch`] goes from slot to slot and waits until no packet sees
//! the old one. Where there are no packets, a hundred thousand images are no
//! reason to wait a hundred thousand times.

use super::Generations;
use crate::{
    compile::image::Image,
    maps::{
        MapsError,
        slot::{Keep, Slot},
    },
};

use hostfw_common::names::ACTIVE;

/// The generation that is in force from the beginning. 0 means none.
const GENERATION: u64 = 2;

/// The maps of one slot, and what is in them.
pub(crate) struct Refill {
    generations: Generations,
    slot: Slot,
}

impl Refill {
    /// Takes the maps of programs that judge nothing else.
    pub(crate) fn new(mut generations: Generations) -> Result<Self, MapsError> {
        generations
            .active
            .set(0, GENERATION, 0)
            .map_err(MapsError::map(ACTIVE))?;
        Ok(Self {
            generations,
            slot: Slot::new(Keep::WhileItFits),
        })
    }

    /// Puts an image in the place of the one before. After an error neither of
    /// them is there as a whole.
    pub(crate) fn write(&mut self, image: &Image) -> Result<(), MapsError> {
        let made = self.slot.write(&self.generations.maker, image)?;
        let installed = self.generations.install(GENERATION, &self.slot, &made);
        if installed.is_err() {
            self.slot.forget(&made);
        }
        installed
    }
}
