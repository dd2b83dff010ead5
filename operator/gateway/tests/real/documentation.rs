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
            "type": "array", "items": { "type": "integer", "format": "int64" }, "default": [1, 2],
        })
    );
    let body = &document["paths"]["/v0/pipes/echo.json"]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["needed"]));
    assert_eq!(schema["properties"]["ids"]["default"], json!([1, 2]));
    assert_eq!(schema["properties"]["number"]["description"], "A number");
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
async fn numbers_are_what_the_document_says() {
    let document = stage().shop().get("/v0/pipes/openapi.json").await.json();
    let schema = &document["paths"]["/v0/pipes/wide.json"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"]["properties"]["data"]["items"]["properties"];
    let answer = stage().shop().get("/v0/pipes/wide.json").await;
    let row = &answer.json()["data"][0];
    for (name, value) in row.as_object().unwrap() {
        let kind = if value.is_string() {
            "string"
        } else {
            "number"
        };
        let kind = if value.is_i64() || value.is_u64() {
            "integer"
        } else {
            kind
        };
        // What has no room in 64 bits is read as a float here.
        let is_wide = name.ends_with("128") || name.ends_with("256");
        let kind = if is_wide && value.is_number() {
            "integer"
        } else {
            kind
        };
        assert_eq!(schema[name]["type"], kind, "{name}: {}", answer.text());
    }
    assert_eq!(row["uint32"], u32::MAX);
    assert_eq!(schema["uint32"]["format"], "int64");
    assert_eq!(row["uint64"], u64::MAX);
    assert_eq!(schema["uint64"], json!({ "type": "integer", "minimum": 0 }));
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
