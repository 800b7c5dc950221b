use super::*;
use crate::model::{Order, TierDefault};

#[track_caller]
fn tier(resource: &Resource) -> model::Tier {
    let value = valid(resource);
    let Object::Tier(tier) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(tier)
}

#[test]
fn tiers_have_an_order_and_a_default() {
    let plain = tier(&resource("Tier", "t", ""));
    assert_eq!(plain.order, Order::LAST);
    assert_eq!(plain.default_action, TierDefault::Deny);
    assert_eq!(tier(&resource("Tier", "t", "defaultAction: Deny")), plain);
    assert_eq!(tier(&resource("Tier", "t", "defaultAction: ''")), plain);
    let full = tier(&resource("Tier", "t", "order: 1.5, defaultAction: Pass"));
    assert_eq!(full.order.value(), 1.5);
    assert_eq!(full.default_action, TierDefault::Pass);
}

#[test]
fn some_tiers_cannot_be_otherwise() {
    let always = [
        ("default", "order: 1000000"),
        ("default", "order: 1000000, defaultAction: Deny"),
        ("kube-admin", "order: 1000, defaultAction: Pass"),
        ("kube-baseline", "order: 10000000, defaultAction: Pass"),
    ];
    for (name, spec) in always {
        let fixed = tier(&resource("Tier", name, spec));
        assert!(model::Tier::always_there().contains(&fixed), "{name}");
    }
    for (name, spec, expected) in [
        (
            "default",
            "",
            "spec.order: expected 1000000, which is fixed for this tier, found nothing",
        ),
        (
            "default",
            "order: 10",
            "spec.order: expected 1000000, which is fixed for this tier, found 10",
        ),
        (
            "default",
            "order: 1000000, defaultAction: Pass",
            "spec.defaultAction: expected Deny, which is fixed for this tier, found Pass",
        ),
        (
            "kube-admin",
            "order: 1000",
            "spec.defaultAction: expected Pass, which is fixed for this tier, found nothing",
        ),
        (
            "kube-admin",
            "order: 1001, defaultAction: Pass",
            "spec.order: expected 1000, which is fixed for this tier, found 1001",
        ),
        (
            "kube-baseline",
            "order: 1, defaultAction: Pass",
            "spec.order: expected 10000000, which is fixed for this tier, found 1",
        ),
        (
            "kube-baseline",
            "order: 10000000, defaultAction: Deny",
            "spec.defaultAction: expected Pass, which is fixed for this tier, found Deny",
        ),
    ] {
        refused(&resource("Tier", name, spec), &[expected]);
    }
}

#[test]
fn tiers_that_are_refused() {
    refused(
        &resource("Tier", "t", "defaultAction: deny"),
        &["spec.defaultAction: expected Deny or Pass, found \"deny\""],
    );
    for name in ["a.b".to_owned(), "a".repeat(64)] {
        refused(
            &resource("Tier", &name, ""),
            &[&format!(
                "metadata.name: expected a name without dots, of at most 63 characters, found \
                 {name:?}"
            )],
        );
    }
}
