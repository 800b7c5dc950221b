//! Programs at netfilter's hooks: what is for this host and what it forwards
//! is judged there, after routing and DNAT.
//!
//! Unlike the programs on interfaces they see every packet of the network
//! namespace, and find the endpoints by the interfaces that netfilter tells
//! them. An endpoint whose packets they are to judge says so with
//! [`FLAG_NETFILTER`](hostfw_common::endpoint::FLAG_NETFILTER).

mod btf;
mod layout;
mod links;
mod programs;

use std::{fmt, str::FromStr};

use aya_obj::relocation::EbpfRelocationError;

use super::{Dataplane, DataplaneError, hook::UnknownChoice};
use crate::maps::{BpfError, PinError, pins::Pins};

pub(crate) use self::{layout::Kernel, links::Place, programs::Programs};
pub use btf::BtfError;
pub(super) use links::{remove_all, remove_fresh};

/// Whether the netfilter hooks are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetfilterChoice {
    /// If the kernel has what that needs.
    #[default]
    Auto,
    /// Not at all: forwarded traffic and what is for this host is judged
    /// before DNAT only.
    Off,
}

impl FromStr for NetfilterChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => Err(UnknownChoice::new("auto, off", text)),
        }
    }
}

impl fmt::Display for NetfilterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

/// Why nothing is judged at the netfilter hooks.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    /// By choice.
    #[error("switched off (--netfilter off)")]
    Off,
    /// The programs do not know how to read the kernel's connection tracking.
    #[error(
        "nf_conntrack was loaded after the agent had started: what is translated before \
         the netfilter hooks is judged as if it were not; restart the agent"
    )]
    ConntrackCameLater,
    /// The programs are not loaded; the reason was found when the dataplane
    /// was opened.
    #[error("{0}")]
    NotLoaded(String),
    /// The kernel does not tell what the programs must know of it.
    #[error("netfilter programs need Linux 6.4 with BTF: {0}")]
    Types(#[from] BtfError),
    /// The object lacks a program. A defect of the build.
    #[error("program {0}: expected in the BPF object, found none")]
    MissingProgram(&'static str),
    /// The object could not be put together. A defect of the build.
    #[error("BPF object: {0}")]
    Object(#[from] EbpfRelocationError),
    /// The kernel refused a program.
    #[error("program {name} (needs Linux 6.4): {error}")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// What the kernel said.
        #[source]
        error: BpfError,
    },
    /// A hook could not be had.
    #[error("netfilter hook {hook}: {tried}")]
    Link {
        /// Family and hook.
        hook: String,
        /// What was tried, and what was wrong with it.
        tried: String,
    },
    /// The folder of pins could not be changed.
    #[error(transparent)]
    Pin(#[from] PinError),
}

impl Dataplane {
    /// Whether programs judge at the netfilter hooks on the maps of this
    /// dataplane, be it those of an earlier agent. If none are wanted, what is
    /// there does not count.
    #[must_use]
    pub fn netfilter_attached(&self) -> bool {
        self.options.netfilter == NetfilterChoice::Auto && links::attached(&self.pins)
    }

    /// The netfilter hooks in use: family and hook as in `ipv4-local-in`, with
    /// the priority.
    #[must_use]
    pub fn netfilter_hooks(&self) -> Vec<(String, i32)> {
        links::hooks(&self.pins)
    }

    /// Has this agent's programs judge at the netfilter hooks of the caller's
    /// network namespace. In place of an earlier agent's, if there are, without
    /// a moment in which neither judges. Does nothing if it is so already.
    ///
    /// # Errors
    ///
    /// If it cannot be done. What judged before does so still. Also if the
    /// programs judge, but do not see all.
    pub fn attach_netfilter(&mut self) -> Result<(), NetfilterError> {
        let programs = match &self.netfilter {
            Ok(programs) => programs,
            Err(reason) => return Err(NetfilterError::NotLoaded(reason.clone())),
        };
        if !self.netfilter_held || !self.netfilter_attached() {
            links::attach(programs, &self.pins)?;
            self.netfilter_held = true;
            tracing::info!("attached to the netfilter hooks");
        }
        if !programs.read_entries() && layout::has_conntrack() {
            return Err(NetfilterError::ConntrackCameLater);
        }
        Ok(())
    }

    /// Removes the netfilter links and the maps of older versions, which judge
    /// until this one's does it all.
    ///
    /// # Errors
    ///
    /// If a pin cannot be removed.
    pub fn retire(&mut self) -> Result<(), DataplaneError> {
        for folder in Pins::every(&self.options.pin_root)? {
            if folder != self.pins {
                links::remove_all(&folder)?;
            }
        }
        self.retire_older_versions()
    }

    /// Takes the programs off the netfilter hooks.
    ///
    /// # Errors
    ///
    /// If a pin cannot be removed. That there is nothing is no error.
    pub fn detach_netfilter(&mut self) -> Result<(), DataplaneError> {
        self.netfilter_held = false;
        let removed = links::remove_all(&self.pins)?;
        if removed > 0 {
            tracing::info!(links = removed, "detached from the netfilter hooks");
        }
        Ok(())
    }
}
