//! That the server by script answers as an API server does where things are
//! written: by what it is told here, other tests judge what is written.

use ::kube::{
    Api, Client, Error,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use hostfw_agent::source::kubernetes::client_at;
use serde_json::{Value, json};

use super::server::{Server, WRITTEN};

fn tiers(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "projectcalico.org".to_owned(),
        version: "v3".to_owned(),
        api_version: WRITTEN.to_owned(),
        kind: "Tier".to_owned(),
        plural: "tiers".to_owned(),
    };
    Api::all_with(client.clone(), &resource)
}

fn tier(spec: &Value) -> DynamicObject {
    let value = json!({"apiVersion": WRITTEN, "kind": "Tier", "metadata": {"name": "a"},
        "spec": spec});
    serde_json::from_value(value).expect("an object")
}

/// Code and reason of a refusal.
fn refusal<T>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.reason),
        Err(error) => panic!("no answer: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn objects_are_created_replaced_and_deleted_once() {
    let server = Server::serving(WRITTEN).await;
    let client = client_at(&server.address).expect("an address");
    let api = tiers(&client);
    let post = PostParams::default();
    let made = api.create(&post, &tier(&json!({"order": 1}))).await;
    let made = made.expect("there is none");
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    let again = api.create(&post, &tier(&json!({"order": 1}))).await;
    assert_eq!(refusal(again), (409, "AlreadyExists".to_owned()));

    let mut newer = made.clone();
    newer.data["spec"]["order"] = json!(2);
    let newer = api.replace("a", &post, &newer).await.expect("it is newest");
    assert_eq!(newer.metadata.generation, Some(2));
    let old = api.replace("a", &post, &made).await;
    assert_eq!(refusal(old), (409, "Conflict".to_owned()));
    let blind = api.replace("a", &post, &tier(&json!({}))).await;
    assert_eq!(refusal(blind), (422, "Invalid".to_owned()));
    assert_eq!(server.all("Tier").len(), 1);

    server.refuse_writes("Tier", Some(403));
    let delete = DeleteParams::default();
    assert_eq!(refusal(api.delete("a", &delete).await).0, 403);
    server.refuse_writes("Tier", None);
    api.delete("a", &delete).await.expect("it is there");
    let gone = api.delete("a", &delete).await;
    assert_eq!(refusal(gone), (404, "NotFound".to_owned()));
    assert_eq!(server.object("Tier", "a"), None);
    assert_eq!(server.wrote("DELETE /apis/projectcalico.org/v3/tiers/a"), 3);
}

#[tokio::test]
async fn what_is_applied_belongs_to_who_applied_it() {
    let server = Server::serving(WRITTEN).await;
    let client = client_at(&server.address).expect("an address");
    let api = tiers(&client);
    let apply = async |who: &PatchParams, spec: Value| {
        let patch = Patch::Apply(tier(&spec));
        api.patch("a", who, &patch).await
    };
    let spec = || server.object("Tier", "a").expect("it is there")["spec"].clone();
    let metadata = || server.object("Tier", "a").expect("it is there")["metadata"].clone();
    let mine = PatchParams::apply("me");
    let both = || json!({"order": 1, "defaultAction": "Pass"});
    apply(&mine, both()).await.expect("it is made");
    let before = metadata();
    apply(&mine, both()).await.expect("nothing changes");
    assert_eq!(metadata(), before);
    // What is left out goes.
    let done = apply(&mine, json!({"order": 1})).await;
    done.expect("it changes");
    assert_eq!(spec(), json!({"order": 1}));

    let theirs = PatchParams::apply("them");
    let taken = apply(&theirs, json!({"order": 2})).await;
    assert_eq!(refusal(taken), (409, "Conflict".to_owned()));
    let done = apply(&theirs, json!({"defaultAction": "Deny"})).await;
    done.expect("it is nobody's");
    assert_eq!(spec(), json!({"order": 1, "defaultAction": "Deny"}));
    let done = apply(&theirs.force(), json!({"order": 2})).await;
    done.expect("by force");
    assert_eq!(spec(), json!({"order": 2}));
}
