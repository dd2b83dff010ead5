//! Tenants: what one may not see of another, through any door.

use super::stage::stage;

#[tokio::test]
async fn a_pipe_that_names_another_tenants_table_is_refused_by_clickhouse() {
    assert_eq!(
        stage()
            .caller("other-token")
            .events("secrets", "{\"secret\": \"xyzzy\"}")
            .await,
        (1, 0)
    );
    let peek = stage()
        .caller("other-token")
        .get("/v0/pipes/peek.ndjson")
        .await;
    assert!(peek.text().contains("xyzzy"));

    let answer = stage().shop().get("/v0/pipes/nosy.json").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "query_forbidden"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-db-exception-code"), "497");
    for name in ["xyzzy", "secret", "other", "__reader"] {
        assert!(!answer.text().contains(name), "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_mistake_is_named_without_the_whole_query() {
    let answer = stage().shop().get("/v0/pipes/typo.json").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (500, "query_failed"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("citty"), "{}", answer.text());
    assert!(!answer.text().contains("SELECT"), "{}", answer.text());
}

#[tokio::test]
async fn queries_do_not_reach_outside() {
    let answer = stage().shop().get("/v0/pipes/outward.json").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "query_forbidden"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_token_opens_its_own_workspace_only() {
    let other = stage().caller("other-token");
    let answer = other.get("/v0/pipes/echo.json?needed=1").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "pipe_unknown")
    );
    let answer = other.post("/v0/events?name=sales", "{}").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "datasource_unknown")
    );
}
