//! What the agent tells about itself.

pub mod conditions;
pub mod counters;
pub mod events;
pub mod http;
pub mod live;
pub mod metrics;
pub mod notes;
pub mod objects;
pub mod program_log;
pub mod reports;
pub mod rules;
pub mod socket;
pub mod status;
