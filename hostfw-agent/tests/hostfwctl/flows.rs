use crate::{EMPTY, sandbox::Sandbox};

fn report(policy: &str) -> String {
    format!(
        r#"{{"time": "2026-01-01T00:00:00.125Z", "interface": "eth0", "endpoint": "hep",
        "direction": "ingress", "protocol": 17, "source": "192.0.2.1", "sourcePort": 4000,
        "destination": "10.0.0.1", "destinationPort": 53, "verdict": "logged",
        "stage": "normal", "tier": "default", "kind": "GlobalNetworkPolicy",
        "policy": "{policy}", "rule": "ingress[0]"}}"#
    )
}

fn answer(reports: &[String], next: u64, lost: u64, hidden: u64) -> String {
    let reports = reports.join(",");
    format!(r#"{{"reports": [{reports}], "next": {next}, "lost": {lost}, "hidden": {hidden}}}"#)
}

#[test]
fn flows_without_an_agent_fail_with_one_line() {
    let sandbox = Sandbox::new();
    let done = sandbox
        .run(&["flows"], EMPTY)
        .fails()
        .says("")
        .complains("no agent answers on");
    assert_eq!(done.err.lines().count(), 1);
}

#[test]
fn what_was_reported_is_shown_as_text_and_json() {
    let sandbox = Sandbox::new();
    sandbox.agent_reports(|question| {
        assert_eq!(question, "{\"request\":\"reports\"}\n");
        // As of an agent that does not count what is hidden.
        answer(&[report("a"), report("b")], 9, 0, 0).replace(", \"hidden\": 0", "")
    });
    let text = sandbox.run(&["flows"], EMPTY).succeeds().out;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "2026-01-01T00:00:00.125Z logged eth0 hep ingress UDP 192.0.2.1:4000 -> 10.0.0.1:53 \
         normal default/a ingress[0]"
    );
    assert_eq!(lines.len(), 2);
    let json = sandbox.run(&["flows", "-o", "json"], EMPTY).succeeds().out;
    let policies: Vec<String> = json
        .lines()
        .map(|line| {
            let report: serde_json::Value = serde_json::from_str(line).unwrap();
            report["policy"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(policies, ["a", "b"]);
}

#[test]
fn following_asks_for_what_came_since_and_tells_what_is_lost() {
    let sandbox = Sandbox::new();
    let mut asked = 0;
    sandbox.agent_reports(move |question| {
        asked += 1;
        match asked {
            1 => answer(&[report("a")], 7, 0, 3),
            2 => {
                assert_eq!(question, "{\"request\":\"reports\",\"from\":7}\n");
                answer(&[report("b")], 12, 4, 8)
            }
            _ => r#"{"error": "the end of this test"}"#.to_owned(),
        }
    });
    let done = sandbox
        .run(&["flows", "--follow"], EMPTY)
        .fails()
        .complains("3 denials not shown since hostfw's maps were made")
        .complains("5 denials not shown")
        .complains("4 reports were more than the agent keeps")
        .complains("the end of this test");
    let policies: Vec<bool> = ["default/a", "default/b"]
        .into_iter()
        .zip(done.out.lines())
        .map(|(policy, line)| line.contains(policy))
        .collect();
    assert_eq!(policies, [true, true], "{}", done.out);
}
