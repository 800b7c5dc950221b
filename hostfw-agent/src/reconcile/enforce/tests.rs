use hostfw_common::endpoint::Endpoint;

use super::*;
use crate::reconcile::fake::{Call, Fake};

fn image(interfaces: &[u32]) -> Image {
    Image {
        endpoints: interfaces
            .iter()
            .map(|&index| (index, Endpoint::default()))
            .collect(),
        ..Image::default()
    }
}

fn interface(index: u32) -> Interface {
    Interface {
        index,
        name: format!("eth{index}"),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

fn enforce(enforcer: &mut Enforcer<Fake>, target: &Image) -> (Outcome, Vec<Call>) {
    let interfaces: Vec<_> = target.endpoints.keys().copied().map(interface).collect();
    let outcome = enforcer.enforce(target, &interfaces.iter().collect::<Vec<_>>(), |_| {});
    (outcome, enforcer.dataplane.take_calls())
}

#[test]
fn first_enforcement_ends_judging_and_the_second_does_nothing() {
    let mut enforcer = Enforcer::new(Fake::default());
    let mut generations = Vec::new();
    let (two, three) = (interface(2), interface(3));
    let outcome = enforcer.enforce(&image(&[2, 3]), &[&two, &three], |g| generations.push(g));
    assert!(outcome.complete());
    assert_eq!(generations, [1, 2]);
    assert_eq!(
        enforcer.dataplane.take_calls(),
        [
            Call::Switch(vec![2, 3], vec![]),
            Call::Attach(2),
            Call::Attach(3),
            Call::Adopt,
            Call::Switch(vec![], vec![2, 3]),
        ]
    );
    assert!(enforcer.hooks(2).is_some());

    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.complete());
    assert_eq!(calls, []);
}

#[test]
fn what_was_only_observed_learns_before_it_is_enforced() {
    let mut enforcer = Enforcer::new(Fake::default()).observing(true);
    let target = image(&[2]);
    let (outcome, calls) = enforce(&mut enforcer, &target);
    assert!(outcome.complete());
    assert_eq!(calls.last(), Some(&Call::Switch(vec![], vec![2])));
    let observes = |enforcer: &Enforcer<Fake>| {
        let endpoints = &enforcer.dataplane.image.endpoints;
        endpoints.values().all(|one| one.flags & FLAG_OBSERVE != 0)
    };
    assert!(observes(&enforcer));
    assert_eq!(enforce(&mut enforcer, &target).1, []);

    // The next agent enforces: connections that policy would have denied are to
    // go on, so they are taken over as those of an interface without programs.
    let mut enforcer = Enforcer::new(enforcer.dataplane);
    let (outcome, calls) = enforce(&mut enforcer, &target);
    assert!(outcome.complete());
    assert_eq!(
        calls,
        [
            Call::Switch(vec![2], vec![]),
            Call::Attach(2),
            Call::Adopt,
            Call::Switch(vec![], vec![2]),
        ]
    );
    assert!(!observes(&enforcer));

    // One that observes again cuts nothing: there is nothing to learn first.
    let mut enforcer = Enforcer::new(enforcer.dataplane).observing(true);
    let (outcome, calls) = enforce(&mut enforcer, &target);
    assert!(outcome.complete());
    assert_eq!(calls, [Call::Switch(vec![], vec![2]), Call::Attach(2)]);
    assert!(observes(&enforcer));
}

#[test]
fn the_interface_of_a_workload_is_attached_as_such() {
    let mut enforcer = Enforcer::new(Fake::default());
    let mut target = image(&[2, 3]);
    target.endpoints.entry(3).or_default().flags |= FLAG_WORKLOAD;
    let (outcome, calls) = enforce(&mut enforcer, &target);
    assert!(outcome.complete());
    assert_eq!(calls[1..3], [Call::Attach(2), Call::AttachWorkload(3)]);
}

#[test]
fn an_interface_that_gets_a_vlan_is_attached_again_unless_it_is_at_tc() {
    let mut enforcer = Enforcer::new(Fake::default());
    let target = image(&[2]);
    enforce(&mut enforcer, &target);
    enforcer.dataplane.unfit_for_xdp.insert(2);
    let (outcome, calls) = enforce(&mut enforcer, &target);
    assert!(outcome.complete());
    assert_eq!(calls, [Call::Attach(2)]);
    assert_eq!(enforcer.hooks(2).unwrap().ingress.hook, "tcx");
    assert_eq!(enforce(&mut enforcer, &target).1, []);
}

#[test]
fn a_switch_that_fails_changes_nothing() {
    let mut enforcer = Enforcer::new(Fake::default());
    enforce(&mut enforcer, &image(&[2]));
    enforcer.dataplane.switches_left = Some(0);
    let (outcome, calls) = enforce(&mut enforcer, &image(&[]));
    assert!(!outcome.switched && !outcome.complete());
    let error = outcome.error.unwrap();
    assert!(error.contains("no memory for maps"), "{error}");
    assert_eq!(calls, [], "in particular, interface 2 is not let go");
    assert_eq!(enforcer.dataplane.image, image(&[2]));

    enforcer.dataplane.switches_left = None;
    let (outcome, calls) = enforce(&mut enforcer, &image(&[]));
    assert!(outcome.complete());
    assert_eq!(
        calls,
        [Call::Switch(vec![], vec![]), Call::Detach(2)],
        "the next attempt carries on"
    );
}

#[test]
fn a_second_switch_that_fails_is_made_up_for() {
    let mut enforcer = Enforcer::new(Fake {
        switches_left: Some(1),
        ..Fake::default()
    });
    let (outcome, _) = enforce(&mut enforcer, &image(&[2]));
    assert!(!outcome.switched);
    assert!(outcome.error.is_some());

    enforcer.dataplane.switches_left = None;
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.complete());
    assert_eq!(calls.last(), Some(&Call::Switch(vec![], vec![2])));
}

#[test]
fn an_interface_that_cannot_be_attached_does_not_stop_the_others() {
    let mut enforcer = Enforcer::new(Fake {
        cannot_attach: BTreeSet::from([2]),
        ..Fake::default()
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.switched && !outcome.complete());
    assert_eq!(
        outcome.not_attached,
        BTreeMap::from([(2, "no such device".to_owned())])
    );
    assert!(calls.contains(&Call::Attach(3)));
    assert_eq!(calls.last(), Some(&Call::Switch(vec![], vec![2, 3])));

    // Once it can be, it learns; the other one stays judged all the while.
    enforcer.dataplane.cannot_attach.clear();
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.complete());
    assert_eq!(
        calls,
        [
            Call::Switch(vec![2], vec![3]),
            Call::Attach(2),
            Call::Adopt,
            Call::Switch(vec![], vec![2, 3]),
        ]
    );
}

#[test]
fn what_nobody_sees_go_out_is_not_judged_at_netfilter() {
    let mut enforcer = Enforcer::new(Fake {
        cannot_attach: BTreeSet::from([2]),
        has_netfilter: true,
        ..Fake::default()
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.switched && outcome.not_attached.contains_key(&2));
    assert_eq!(calls.last(), Some(&Call::Netfilter(vec![3])));
    enforcer.dataplane.cannot_attach.clear();
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.complete());
    assert_eq!(calls.last(), Some(&Call::Netfilter(vec![2, 3])));

    // An earlier agent's programs stay, and see it.
    enforcer = Enforcer::new(Fake {
        cannot_attach: BTreeSet::from([2]),
        has_netfilter: true,
        ..Fake::left_behind(image(&[2]))
    });
    let (_, calls) = enforce(&mut enforcer, &image(&[2]));
    assert_eq!(calls.last(), Some(&Call::Netfilter(vec![2])));
}

#[test]
fn a_member_is_judged_at_netfilter_only_if_its_master_is_governed() {
    let mut enforcer = Enforcer::new(Fake {
        has_netfilter: true,
        ..Fake::default()
    });
    let member = Interface {
        master: Some(9),
        ..interface(2)
    };
    let outcome = enforcer.enforce(&image(&[2]), &[&member], |_| {});
    assert!(outcome.complete());
    let calls = enforcer.dataplane.take_calls();
    assert_eq!(calls.last(), Some(&Call::Netfilter(vec![])));
    enforcer.enforce(&image(&[2, 9]), &[&member, &interface(9)], |_| {});
    let calls = enforcer.dataplane.take_calls();
    assert_eq!(calls.last(), Some(&Call::Netfilter(vec![2, 9])));
}

#[test]
fn an_interface_that_vanished_while_attaching_is_forgotten_with_the_next_image() {
    let mut enforcer = Enforcer::new(Fake {
        cannot_attach: BTreeSet::from([2]),
        ..Fake::default()
    });
    enforce(&mut enforcer, &image(&[2]));
    let (outcome, calls) = enforce(&mut enforcer, &image(&[]));
    assert!(outcome.complete());
    assert_eq!(calls, [Call::Switch(vec![], vec![])]);
}

#[test]
fn an_interface_that_went_away_and_came_back_under_its_index_learns_again() {
    let mut enforcer = Enforcer::new(Fake::default());
    enforce(&mut enforcer, &image(&[2]));
    enforcer.dataplane.attached.clear();
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.complete());
    assert_eq!(calls[0], Call::Switch(vec![2], vec![]));
    assert_eq!(calls[1], Call::Attach(2));
}

#[test]
fn flows_that_cannot_be_taken_over_do_not_keep_the_interface_open() {
    let mut enforcer = Enforcer::new(Fake {
        cannot_adopt: true,
        ..Fake::default()
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert_eq!(
        outcome.not_adopted,
        BTreeMap::from([(2, "no conntrack".to_owned())])
    );
    assert_eq!(calls.last(), Some(&Call::Switch(vec![], vec![2])));
}

#[test]
fn an_earlier_agents_interface_is_never_learning() {
    let mut enforcer = Enforcer::new(Fake::left_behind(image(&[2])));
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert!(outcome.complete());
    assert_eq!(
        calls,
        [
            Call::Switch(vec![3], vec![2]),
            Call::Attach(2),
            Call::Attach(3),
            Call::Adopt,
            Call::Switch(vec![], vec![2, 3]),
        ]
    );
}

#[test]
fn an_earlier_agents_learning_is_finished() {
    let mut learning = image(&[2]);
    learning.endpoints.entry(2).or_default().flags = FLAG_LEARNING;
    let mut enforcer = Enforcer::new(Fake::left_behind(learning));
    let (_, calls) = enforce(&mut enforcer, &image(&[2]));
    assert_eq!(
        calls,
        [
            Call::Switch(vec![2], vec![]),
            Call::Attach(2),
            Call::Adopt,
            Call::Switch(vec![], vec![2]),
        ]
    );
}

#[test]
fn what_cannot_be_let_go_is_reported_and_tried_again() {
    let mut enforcer = Enforcer::new(Fake::default());
    enforce(&mut enforcer, &image(&[2]));
    enforcer.dataplane.cannot_detach = true;
    let (outcome, _) = enforce(&mut enforcer, &image(&[]));
    assert!(outcome.switched && !outcome.complete());
    assert_eq!(
        outcome.not_detached,
        BTreeMap::from([(2, "busy".to_owned())])
    );
    enforcer.dataplane.cannot_detach = false;
    let (outcome, calls) = enforce(&mut enforcer, &image(&[]));
    assert!(outcome.complete());
    assert_eq!(calls, [Call::Detach(2)]);
}

#[test]
fn without_a_list_of_what_is_attached_nothing_is_touched() {
    let mut enforcer = Enforcer::new(Fake {
        cannot_list: true,
        ..Fake::left_behind(image(&[2]))
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[]));
    assert!(!outcome.switched);
    assert!(outcome.error.unwrap().contains("no list today"));
    assert_eq!(calls, []);
}

#[test]
fn programs_of_another_version_are_replaced_after_their_flows_were_taken_over() {
    let mut enforcer = Enforcer::new(Fake {
        attached: BTreeSet::from([2]),
        ..Fake::default()
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.complete());
    assert_eq!(
        calls,
        [
            Call::Switch(vec![], vec![2]),
            Call::Adopt,
            Call::Attach(2),
            Call::Switch(vec![], vec![2])
        ]
    );
}

#[test]
fn netfilter_programs_are_attached_first_and_judge_last() {
    let mut enforcer = Enforcer::new(Fake {
        has_netfilter: true,
        ..Fake::default()
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.complete());
    assert_eq!(outcome.netfilter_missing, None);
    assert_eq!(
        calls,
        [
            Call::AttachNetfilter,
            Call::Switch(vec![2], vec![]),
            Call::Netfilter(vec![]),
            Call::Attach(2),
            Call::Adopt,
            Call::Switch(vec![], vec![2]),
            Call::Netfilter(vec![2]),
        ]
    );
    // Another interface learns, and this one is judged on.
    let (_, calls) = enforce(&mut enforcer, &image(&[2, 3]));
    assert_eq!(
        calls[..2],
        [Call::Switch(vec![3], vec![2]), Call::Netfilter(vec![2])]
    );
    // Nothing governed any more: let go last.
    let (_, calls) = enforce(&mut enforcer, &image(&[]));
    assert_eq!(
        calls,
        [
            Call::Switch(vec![], vec![]),
            Call::Netfilter(vec![]),
            Call::Detach(2),
            Call::Detach(3),
            Call::DetachNetfilter,
        ]
    );
}

#[test]
fn without_netfilter_programs_the_wire_records_and_the_reason_is_told() {
    let mut enforcer = Enforcer::new(Fake::default());
    let (outcome, _) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.complete());
    assert_eq!(outcome.netfilter_missing.as_deref(), Some("an old kernel"));
    assert_eq!(enforcer.dataplane().image.endpoints[&2].flags, 0);
}

#[test]
fn netfilter_programs_of_an_earlier_agent_judge_if_none_can_take_over() {
    let mut enforcer = Enforcer::new(Fake {
        netfilter_attached: true,
        ..Fake::left_behind(image(&[2]))
    });
    let (outcome, calls) = enforce(&mut enforcer, &image(&[2]));
    assert!(outcome.netfilter_missing.is_some());
    assert!(!calls.contains(&Call::DetachNetfilter));
    let flags = enforcer.dataplane().image.endpoints[&2].flags;
    assert_eq!(flags, hostfw_common::endpoint::FLAG_NETFILTER);
}
