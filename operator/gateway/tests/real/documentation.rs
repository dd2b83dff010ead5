//! What a token can call, as a document.

use super::stage::stage;
use serde_json::json;

#[tokio::test]
async fn the_openapi_document_describes_what_the_token_may_read() {
    let all = stage().shop().get("/v0/pipes/openapi.json").await;
    assert_eq!(all.status, 200);
    let document = all.json();
    assert_eq!(document["openapi"], "3.1.0");
    let operation = &document["paths"]["/v0/pipes/echo.json"]["get"];
    assert_eq!(operation["description"], "Gives back what it is given.");
    let parameter = |name: &str| {
        let parameters = operation["parameters"].as_array().unwrap();
        parameters
            .iter()
            .find(|parameter| parameter["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(parameter("number")["description"], "A number");
    assert_eq!(
        parameter("number")["schema"],
        json!({ "type": "integer", "format": "int32", "default": 7 })
    );
    assert_eq!(
        parameter("word")["schema"]["enum"],
        json!(["none", "hi", "a&b= ;"])
    );
    assert_eq!(parameter("needed")["required"], true);
    assert_eq!(
        parameter("ids")["schema"],
        json!({
            "type": "array", "items": { "type": "integer", "format": "int64" }, "default": ["1", "2"],
        })
    );
    let rows = &operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
        ["data"]["items"];
    assert_eq!(
        rows["properties"]["number"],
        json!({ "type": "integer", "format": "int32" })
    );

    let scoped = stage()
        .variant(|_| {}, &[("PIPES:READ", "echo")])
        .get("/v0/pipes/openapi.json")
        .await;
    let paths = scoped.json()["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(paths.len(), 4);
    assert!(paths.iter().all(|path| path.starts_with("/v0/pipes/echo.")));
}

#[tokio::test]
async fn pipes_are_listed() {
    let list = stage().shop().get("/v0/pipes").await.json();
    let names: Vec<&str> = list["pipes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pipe| pipe["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"echo") && names.contains(&"numbers"),
        "{names:?}"
    );
}
