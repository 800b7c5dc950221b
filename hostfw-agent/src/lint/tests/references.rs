use super::*;

const NONE: [&str; 0] = [];

#[test]
fn tiers_that_do_not_exist() {
    let with = |tier: &str| {
        messages(&read(&objects(&[
            ("Tier", "name: known", "order: 1"),
            ("GlobalNetworkPolicy", "name: p", &format!("tier: {tier}")),
        ])))
    };
    assert_eq!(
        with("other"),
        [
            "GlobalNetworkPolicy(p): spec.tier: there is no Tier(other): its policies come behind \
             those of all other tiers, and what none of their rules decides is denied"
        ]
    );
    for tier in ["known", "default", "kube-admin", "kube-baseline", "''"] {
        assert_eq!(with(tier), NONE, "{tier}");
    }
}

#[test]
fn not_every_one_of_many_warnings_is_told() {
    let profiles: Vec<String> = (0..10_000).map(|index| format!("p{index}")).collect();
    let spec = format!(
        "node: n1, interfaceName: eth0, profiles: [{}]",
        profiles.join(",")
    );
    let told = messages(&read(&objects(&[("HostEndpoint", "name: h", &spec)])));
    assert_eq!(told.len(), 11);
    assert_eq!(told[10], "HostEndpoint(h): there are 9990 more warnings");
}

#[test]
fn profiles_that_do_not_exist() {
    let model = read(&objects(&[
        ("Profile", "name: known", ""),
        (
            "HostEndpoint",
            "name: h",
            "node: n1, interfaceName: eth0, profiles: [known, projectcalico-default-allow, other]",
        ),
    ]));
    assert_eq!(
        messages(&model),
        [
            "HostEndpoint(h): spec.profiles[2]: there is no Profile(other): it denies what no \
             policy and no profile before it decides"
        ]
    );
}

#[test]
fn ports_that_nobody_declares() {
    let model = read(&objects(&[
        (
            "HostEndpoint",
            "name: h",
            "node: n1, interfaceName: eth0, ports: [{name: http, protocol: TCP, port: 80}]",
        ),
        (
            "GlobalNetworkPolicy",
            "name: p",
            "ingress: [{action: Allow, destination: {ports: [http]}}, {action: Deny, source: \
             {notPorts: [dns]}}, {action: Allow, destination: {ports: [htpp, http]}}, {action: \
             Allow, destination: {ports: [htpp]}}]",
        ),
        (
            "Profile",
            "name: q",
            "egress: [{action: Allow, destination: {ports: [dns]}}]",
        ),
    ]));
    assert_eq!(
        messages(&model),
        [
            "GlobalNetworkPolicy(p): spec.ingress[1].source.notPorts: no endpoint declares a \
             port of the name \"dns\", which therefore excludes nothing",
            "GlobalNetworkPolicy(p): spec.ingress[2].destination.ports: no endpoint declares \
             a port of the name \"htpp\", which therefore matches nothing",
            "Profile(q): spec.egress[0].destination.ports: no endpoint declares a port of \
             the name \"dns\", which therefore matches nothing",
        ]
    );
}
