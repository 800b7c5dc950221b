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

/// From one image to the next: the slot stays the same, and what programs
/// remember of a generation is of no use for another.
const STEP: u64 = 2;

/// The maps of one slot, and what is in them.
pub(crate) struct Refill {
    generations: Generations,
    slot: Slot,
    generation: u64,
}

impl Refill {
    /// Takes the maps of programs that judge nothing else.
    pub(crate) fn new(generations: Generations) -> Self {
        Self {
            generations,
            slot: Slot::new(Keep::WhileItFits),
            generation: 0,
        }
    }

    /// Puts an image in the place of the one before. After an error neither of
    /// them is there as a whole.
    pub(crate) fn write(&mut self, image: &Image) -> Result<(), MapsError> {
        let made = self.slot.write(&self.generations.maker, image)?;
        // The number of no image that was there, whether or not it comes in
        // whole.
        self.generation += STEP;
        let installed = self
            .generations
            .install(self.generation, &self.slot, &made)
            .and_then(|()| {
                self.generations
                    .active
                    .set(0, self.generation, 0)
                    .map_err(MapsError::map(ACTIVE))
            });
        if installed.is_err() {
            self.slot.forget(&made);
        }
        installed
    }
}
