//! What only a real API server can say of the definitions: that it takes them,
//! and that their rules refuse what they should.

use ::kube::{
    Api, Client, Error,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use hostfw_agent::{crd, resource::parse_documents};
use serde_json::{Value, json};

use super::{
    broken::{broken, messages, texts},
    cluster::policy,
    real::{Turn, turn},
    world::api,
};

/// The first version whose definitions have rules in CEL without a feature gate.
const CEL: u32 = 25;

/// How many CEL rules a schema holds, all the way down.
fn rules(schema: &Value) -> usize {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("x-kubernetes-validations");
            let own = own.and_then(Value::as_array).map_or(0, Vec::len);
            own + fields.values().map(rules).sum::<usize>()
        }
        Value::Array(all) => all.iter().map(rules).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// A server that knows CEL; `None`, which is told, without one.
async fn judge() -> Option<Turn> {
    let rules: usize = crd::all().iter().map(|one| rules(&one.value)).sum();
    assert!(rules > 0, "there are rules");
    let lost = format!("{rules} CEL rules unverified by an API server");
    let turn = turn(&lost).await?;
    if turn.minor < CEL {
        println!("skipped: version 1.{} knows no CEL: {lost}", turn.minor);
        return None;
    }
    Some(turn)
}

/// What the server says of this object, of which it shall keep nothing.
async fn verdict(client: &Client, object: &Value) -> Result<(), Box<::kube::core::Status>> {
    let kind = object["kind"].as_str().expect("a kind");
    let api: Api<DynamicObject> = api(client, kind, object);
    let object = serde_json::from_value(object.clone()).expect("an object");
    let post = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&post, &object).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) => Err(status),
        Err(error) => panic!("no answer: {error}"),
    }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = parse_documents(text).into_iter();
    documents
        .flat_map(|document| document.result.expect("it can be read"))
        .map(|resource| resource.to_value())
        .collect()
}

#[tokio::test]
async fn an_api_server_takes_the_rules_as_they_are_meant() {
    let Some(turn) = judge().await else { return };
    let client = turn.client().await.expect("its own kubeconfig");
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    let messages = messages();
    for (text, why) in broken() {
        let object = &objects(&text)[0];
        match verdict(&client, object).await {
            Ok(()) => wrong.push(format!("{text}is taken")),
            Err(status) => {
                // What is no rule of CEL the server says in its own words.
                let ours = messages.iter().any(|message| message.contains(why));
                if status.code != 422 || (ours && !status.message.contains(why)) {
                    wrong.push(format!(
                        "{text}{why}; but {} {}",
                        status.code, status.message
                    ));
                }
                told.push(status.message.clone());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let untold = |message: &&String| !told.iter().any(|told| told.contains(&***message));
    let untold: Vec<&String> = messages.iter().filter(untold).collect();
    assert!(untold.is_empty(), "never told: {untold:#?}");
    println!(
        "the server has said all {} messages of rules",
        messages.len()
    );
}

#[tokio::test]
async fn an_api_server_takes_what_is_valid() {
    let Some(turn) = judge().await else { return };
    let client = turn.client().await.expect("its own kubeconfig");
    let mut count = 0;
    for object in texts().iter().flat_map(|text| objects(text)) {
        let kind = object["kind"].as_str().expect("a kind");
        // What is a cluster's own, or only a file's.
        let mine = crd::all().iter().any(|one| one.kind.name() == kind);
        // Of these the test does not make the namespace.
        if !mine || object["metadata"]["namespace"].is_string() {
            continue;
        }
        if let Err(status) = verdict(&client, &object).await {
            panic!("{object}: {}", status.message);
        }
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[tokio::test]
async fn an_api_server_asked_to_be_strict_refuses_unknown_fields() {
    let Some(turn) = judge().await else { return };
    let client = turn.client().await.expect("its own kubeconfig");
    let object = policy("strict", "Deny");
    let api: Api<DynamicObject> = api(&client, "GlobalNetworkPolicy", &object);
    let typed = serde_json::from_value(object).expect("an object");
    let made = api.create(&PostParams::default(), &typed).await;
    made.expect("it is valid");
    let change = Patch::Merge(json!({"spec": {"selektor": "all()"}}));
    let strict = PatchParams::default().validation_strict();
    match api.patch("strict", &strict, &change).await {
        Err(Error::Api(status)) => {
            assert!(
                status.message.contains("spec.selektor"),
                "{}",
                status.message
            );
        }
        other => panic!("{other:?}"),
    }
    // Else it is dropped without a word, which is why hostfwctl asks.
    let loose = PatchParams::default().validation_ignore();
    let changed = api.patch("strict", &loose, &change).await;
    let changed = changed.expect("it is dropped");
    assert_eq!(changed.data["spec"].get("selektor"), None);
    let deleted = api.delete("strict", &Default::default()).await;
    deleted.expect("it is there");
}
