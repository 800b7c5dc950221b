//! Programs that judge nothing real: for test runs.

use std::fmt;

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::Program,
};
use hostfw_common::{
    names::{TRACE, TRIAL},
    trial::{Trace, Trial},
};

use super::{
    DataplaneError, FlowTables, NetfilterError, Options,
    netfilter::{Place, Programs},
    object::{self, Loaded, Purpose},
};
use crate::{
    compile::image::Image,
    maps::{MapsError, Refill, bpf},
};

/// A hook of netfilter that a test run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialHook {
    /// What is for this host.
    LocalIn,
    /// What the host forwards.
    Forward,
}

/// A second copy of the programs, with maps of its own and nothing pinned,
/// that believes what it is told ([`Trial`]). It is attached to nothing.
pub struct TrialPrograms {
    ebpf: Ebpf,
    maps: Refill,
    netfilter: Result<Programs, NetfilterError>,
    trial: Array<MapData, Trial>,
    trace: Array<MapData, Trace>,
}

impl fmt::Debug for TrialPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrialPrograms").finish_non_exhaustive()
    }
}

impl TrialPrograms {
    /// Loads the programs.
    ///
    /// # Errors
    ///
    /// If the kernel refuses them.
    pub fn load() -> Result<Self, DataplaneError> {
        super::raise_memlock();
        // Trials look at few flows, and the pin root is not used.
        let options = Options {
            tables: FlowTables {
                half_open: 64,
                confirmed: 64,
            },
            ..Options::new("")
        };
        let Loaded {
            mut ebpf,
            generations,
            netfilter,
            ..
        } = object::load(&options, Purpose::Trial)?;
        let trial = Array::try_from(object::take(&mut ebpf, TRIAL)?);
        let trace = Array::try_from(object::take(&mut ebpf, TRACE)?);
        Ok(Self {
            ebpf,
            maps: Refill::new(generations),
            netfilter,
            trial: trial.map_err(MapsError::map(TRIAL))?,
            trace: trace.map_err(MapsError::map(TRACE))?,
        })
    }

    /// Puts an image in the place of the one before, for the runs that follow.
    ///
    /// # Errors
    ///
    /// If maps cannot be made or filled. There is no whole image then.
    pub fn write(&mut self, image: &Image) -> Result<(), DataplaneError> {
        Ok(self.maps.write(image)?)
    }

    /// Says what the runs that follow are to believe, and forgets what the
    /// last one has told.
    ///
    /// # Errors
    ///
    /// If the maps cannot be written.
    pub fn believe(&mut self, trial: &Trial) -> Result<(), DataplaneError> {
        self.trial.set(0, trial, 0).map_err(MapsError::map(TRIAL))?;
        self.trace
            .set(0, Trace::default(), 0)
            .map_err(MapsError::map(TRACE))?;
        Ok(())
    }

    /// What the last run has told.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn trace(&self) -> Result<Trace, DataplaneError> {
        Ok(self.trace.get(&0, 0).map_err(MapsError::map(TRACE))?)
    }

    /// A program for interfaces, by one of [`names`](hostfw_common::names)'
    /// `PROGRAM_*`, to be run with [`aya::programs::TestRun`].
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.ebpf.program(name)
    }

    /// Why there are no programs for netfilter hooks on this kernel.
    #[must_use]
    pub fn netfilter_missing(&self) -> Option<&NetfilterError> {
        self.netfilter.as_ref().err()
    }

    /// Runs a netfilter program on a packet, from its IP header on: whether it
    /// accepts. `None` if this kernel has no such programs.
    ///
    /// # Errors
    ///
    /// If the kernel does not run it.
    pub fn run_netfilter(
        &self,
        hook: TrialHook,
        packet: &[u8],
    ) -> Result<Option<bool>, DataplaneError> {
        /// `NF_DROP` of linux/netfilter.h.
        const DROP: u32 = 0;

        let Ok(programs) = &self.netfilter else {
            return Ok(None);
        };
        let place = match hook {
            TrialHook::LocalIn => Place::LocalIn,
            TrialHook::Forward => Place::Forward,
        };
        let verdict = bpf::test_netfilter(programs.of(place), packet)
            .map_err(|error| DataplaneError::TestRun { error })?;
        Ok(Some(verdict != DROP))
    }
}
