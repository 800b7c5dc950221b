//! What to do, and in which order, to bring the kernel to an image. Pure.

use std::collections::BTreeSet;

use crate::compile::image::Image;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Put the image in force; on the interfaces of the set flows are recorded
    /// and nothing is judged.
    Switch {
        /// Interface indexes.
        learning: BTreeSet<u32>,
        /// Whether the netfilter programs judge, as the image says; those of
        /// another version do if not.
        netfilter: bool,
    },
    /// Attach programs to the interface, or take over those of an earlier
    /// agent.
    Attach(u32),
    /// Take over the flows that the kernel's own tables know.
    Adopt,
    /// Remove the programs from the interface.
    Detach(u32),
}

/// What is so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The image in force; `None` if it was put there by an earlier agent.
    pub(super) in_force: Option<&'a Image>,
    /// Interfaces that programs are attached to.
    pub(super) attached: &'a BTreeSet<u32>,
    /// Those of them whose packets are judged.
    pub(super) judged: &'a BTreeSet<u32>,
    /// Those of them that have the programs of this agent.
    pub(super) held: &'a BTreeSet<u32>,
    /// The maps are new, so no flow is in them: what is attached judges by
    /// those of another version.
    pub(super) fresh_maps: bool,
}

/// The steps from what is known to the image.
///
/// An interface that is not judged yet learns first: its endpoint is put in
/// force without judging, so that the programs record every flow from the
/// moment they are attached; then the flows from before that moment are taken
/// over from the kernel's tables; only then it is judged. So no flow is cut and
/// none is missed. One that is judged already, by an earlier agent's programs
/// too, never goes back to learning, for that would open it.
///
/// Programs of another version judge by maps of their own. They are replaced
/// only when these maps have the flows that the kernel's tables know. Until
/// then this version's netfilter programs, which see every packet as soon as
/// they are attached, judge nothing.
///
/// An interface that no endpoint governs any more is let go after the switch:
/// the other way round it would be open while the old image still governs it,
/// and nobody could tell.
pub(super) fn plan(target: &Image, known: Known<'_>) -> Vec<Step> {
    let governed: BTreeSet<u32> = target.endpoints.keys().copied().collect();
    let new: BTreeSet<u32> = &governed - known.judged;

    let other_version = known.fresh_maps && !known.judged.is_disjoint(&governed);
    let mut steps = Vec::new();
    if new.is_empty() {
        if known.in_force != Some(target) {
            steps.push(Step::Switch {
                learning: new,
                netfilter: !other_version,
            });
        }
        if other_version {
            steps.push(Step::Adopt);
        }
        steps.extend((&governed - known.held).into_iter().map(Step::Attach));
        if other_version {
            steps.push(Step::Switch {
                learning: BTreeSet::new(),
                netfilter: true,
            });
        }
    } else {
        steps.push(Step::Switch {
            learning: new.clone(),
            netfilter: !other_version,
        });
        if other_version {
            steps.push(Step::Adopt);
        }
        // One that has programs but is not judged is attached again: that is
        // cheap, and whatever went wrong with it may be mended.
        steps.extend(
            governed
                .iter()
                .copied()
                .filter(|index| new.contains(index) || !known.held.contains(index))
                .map(Step::Attach),
        );
        steps.push(Step::Adopt);
        steps.push(Step::Switch {
            learning: BTreeSet::new(),
            netfilter: true,
        });
    }
    steps.extend((known.attached - &governed).into_iter().map(Step::Detach));
    steps
}

#[cfg(test)]
mod tests {
    use hostfw_common::endpoint::Endpoint;

    use super::*;

    fn image(interfaces: &[u32]) -> Image {
        Image {
            endpoints: interfaces
                .iter()
                .map(|&index| (index, Endpoint::default()))
                .collect(),
            ..Image::default()
        }
    }

    fn set(interfaces: &[u32]) -> BTreeSet<u32> {
        interfaces.iter().copied().collect()
    }

    fn switch(learning: &[u32]) -> Step {
        Step::Switch {
            learning: set(learning),
            netfilter: true,
        }
    }

    /// A switch while another version's programs judge.
    fn quiet_switch(learning: &[u32]) -> Step {
        Step::Switch {
            learning: set(learning),
            netfilter: false,
        }
    }

    /// The steps, if the interfaces are attached, judged and held.
    fn steps(target: &Image, in_force: Option<&Image>, sets: [&[u32]; 3]) -> Vec<Step> {
        let [attached, judged, held] = sets.map(set);
        plan(
            target,
            Known {
                in_force,
                attached: &attached,
                judged: &judged,
                held: &held,
                fresh_maps: false,
            },
        )
    }

    #[test]
    fn first_enforcement_learns_attaches_adopts_and_judges() {
        assert_eq!(
            steps(&image(&[2, 3]), None, [&[], &[], &[]]),
            [
                switch(&[2, 3]),
                Step::Attach(2),
                Step::Attach(3),
                Step::Adopt,
                switch(&[]),
            ]
        );
    }

    #[test]
    fn nothing_to_do_is_no_step() {
        let image = image(&[2]);
        assert_eq!(steps(&image, Some(&image), [&[2], &[2], &[2]]), []);
    }

    #[test]
    fn another_policy_is_one_switch() {
        let mut target = image(&[2]);
        target.endpoints.entry(2).or_default().flags = 1;
        assert_eq!(
            steps(&target, Some(&image(&[2])), [&[2], &[2], &[2]]),
            [switch(&[])]
        );
    }

    #[test]
    fn only_the_new_interface_learns() {
        assert_eq!(
            steps(&image(&[2, 3]), Some(&image(&[2])), [&[2], &[2], &[2]]),
            [switch(&[3]), Step::Attach(3), Step::Adopt, switch(&[])]
        );
    }

    #[test]
    fn what_is_no_longer_governed_is_let_go_after_the_switch() {
        assert_eq!(
            steps(
                &image(&[3]),
                Some(&image(&[2, 3])),
                [&[2, 3], &[2, 3], &[2, 3]]
            ),
            [switch(&[]), Step::Detach(2)]
        );
    }

    #[test]
    fn after_a_restart_what_is_judged_is_taken_over_without_learning() {
        assert_eq!(
            steps(&image(&[2]), None, [&[2], &[2], &[]]),
            [switch(&[]), Step::Attach(2)]
        );
    }

    #[test]
    fn after_a_restart_amid_learning_the_interface_learns_again() {
        assert_eq!(
            steps(&image(&[2, 3]), None, [&[2, 3], &[2], &[]]),
            [
                switch(&[3]),
                Step::Attach(2),
                Step::Attach(3),
                Step::Adopt,
                switch(&[]),
            ]
        );
    }

    #[test]
    fn programs_of_another_version_judge_until_the_flows_are_taken_over() {
        let both = set(&[2]);
        let known = Known {
            in_force: None,
            attached: &both,
            judged: &both,
            held: &set(&[]),
            fresh_maps: true,
        };
        assert_eq!(
            plan(&image(&[2]), known),
            [quiet_switch(&[]), Step::Adopt, Step::Attach(2), switch(&[])]
        );
        assert_eq!(
            plan(&image(&[2, 3]), known),
            [
                quiet_switch(&[3]),
                Step::Adopt,
                Step::Attach(2),
                Step::Attach(3),
                Step::Adopt,
                switch(&[]),
            ]
        );
    }

    #[test]
    fn an_interface_that_could_not_be_attached_is_tried_again() {
        // In force, but not attached and so not judged.
        let image = image(&[2, 3]);
        assert_eq!(
            steps(&image, Some(&image), [&[2], &[2], &[2]]),
            [switch(&[3]), Step::Attach(3), Step::Adopt, switch(&[])]
        );
    }

    #[test]
    fn a_take_over_that_failed_is_tried_again_without_a_switch() {
        let image = image(&[2]);
        assert_eq!(
            steps(&image, Some(&image), [&[2], &[2], &[]]),
            [Step::Attach(2)]
        );
    }

    #[test]
    fn without_endpoints_everything_is_let_go() {
        assert_eq!(
            steps(&image(&[]), Some(&image(&[2])), [&[2, 9], &[2], &[2]]),
            [switch(&[]), Step::Detach(2), Step::Detach(9)]
        );
    }
}
