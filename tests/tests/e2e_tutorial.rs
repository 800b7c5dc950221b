//! The tutorial, and faults that must show.

use std::collections::BTreeSet;

use anyhow::Result;
use hostfw_tests::{
    cluster::Binaries,
    report::Report,
    scenario::{self, Fault},
};

fn differing_with(fault: Fault) -> Result<Option<Report>> {
    Binaries::or_skip()
        .map(|binaries| scenario::run(&binaries, Some(fault)))
        .transpose()
}

#[test]
fn the_tutorial_works_as_written() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let report = scenario::run(&binaries, None)?;
    assert!(report.agrees(), "{report}");
    assert_eq!(report.notes, Vec::<String>::new(), "agents died");
    Ok(())
}

#[test]
fn without_the_pinhole_exactly_its_probes_change() -> Result<()> {
    let Some(report) = differing_with(Fault::NoPinhole)? else {
        return Ok(());
    };
    assert_eq!(report.differing(), Fault::NoPinhole.changes(), "{report}");
    Ok(())
}

#[test]
fn without_dnat_exactly_the_nodeport_changes() -> Result<()> {
    let Some(report) = differing_with(Fault::NoDnat)? else {
        return Ok(());
    };
    assert_eq!(report.differing(), Fault::NoDnat.changes(), "{report}");
    Ok(())
}

#[test]
fn without_endpoints_every_probe_that_policy_concerns_changes() -> Result<()> {
    let Some(report) = differing_with(Fault::NoEndpoints)? else {
        return Ok(());
    };
    assert_eq!(report.differing(), Fault::NoEndpoints.changes(), "{report}");
    Ok(())
}

#[test]
fn killing_the_agents_changes_nothing() -> Result<()> {
    let Some(report) = differing_with(Fault::KillAgent)? else {
        return Ok(());
    };
    assert_eq!(report.differing(), BTreeSet::new(), "{report}");
    Ok(())
}
