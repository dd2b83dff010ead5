//! The little tenant that most tests are about: a workspace `shop` with a data
//! source `sales`, or with `orders` and all that goes with them.

use super::Scene;
use anyhow::Result;
use serde_json::json;

/// The data source `sales`: `id` and `city`.
pub const SALES: &str = "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: sales}
spec:
  workspace: shop
  columns:
    - {name: id, type: Int32}
    - {name: city, type: String}
  sortingKey: [id]
";

/// A data source with columns of many types, a pipe with parameters, and a
/// token; in an order in which nothing finds what it needs at first.
const SHOP_WITH_ORDERS: &str = "
apiVersion: aviary.dev/v1alpha1
kind: Pipe
metadata: {name: by-city}
spec:
  workspace: shop
  description: Orders and money of each city
  nodes:
    - name: chosen
      sql: |
        SELECT city, amount FROM orders WHERE 1
        {% if defined(city) %} AND city = {{ String(city, description='One city; all if left out') }} {% end %}
    - name: by_city
      sql: |
        SELECT city, count() AS orders, sum(amount) AS money FROM chosen GROUP BY city ORDER BY city
        LIMIT {{ Int32(limit, 10, description='How many cities') }}
  endpoint: {node: by_city}
---
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: all}
spec:
  workspace: shop
  scopes: [{type: 'PIPES:READ', resource: '*'}, {type: 'DATASOURCES:APPEND', resource: '*'}]
---
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: orders}
spec:
  workspace: shop
  csv: {nullMarkers: [NA, '']}
  columns:
    - {name: id, type: UInt32}
    - {name: at, type: DateTime('UTC')}
    - {name: city, type: LowCardinality(String)}
    - {name: amount, type: Float64, default: '0.5'}
    - {name: note, type: Nullable(String), jsonPath: $.details.note}
    - {name: tags, type: Array(String)}
  sortingKey: [at, id]
  partitionKey: toYYYYMM(at)
  ttl: {column: at, keep: 18262d}
---
apiVersion: aviary.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared, namespace: clickhouse}, deletionPolicy: Delete}
";

/// Three orders for it, one a line, all of them good.
pub const ORDERS: &str = concat!(
    r#"{"id": 1, "at": "2024-05-01 10:00:00", "city": "Bonn", "amount": 2.5, "details": {"note": "first"}, "tags": ["a", "b"]}"#,
    "\n",
    r#"{"id": 2, "at": "2024-05-01T11:00:00Z", "city": "Bonn", "amount": 1, "tags": []}"#,
    "\n",
    r#"{"id": 3, "at": 1714561200, "city": "Oslo", "details": {"note": "it's \"quoted\""}, "tags": ["c"]}"#,
    "\n",
);

impl Scene {
    /// Makes the workspace `shop` with the empty data source `sales`, ready and
    /// known to the gateway; gives a token for everything in it.
    pub async fn shop(&self) -> Result<String> {
        self.workspace("shop").await?;
        self.apply(SALES).await?;
        let token = self.token("shop", "all").await?;
        self.ready("DataSource", "sales").await?;
        self.gateway.takes("sales", &token).await?;
        Ok(token)
    }

    /// As [`Scene::shop`], with the pipe `total`, which counts the sales and is served.
    pub async fn shop_with_total(&self) -> Result<String> {
        let token = self.shop().await?;
        self.apply(&pipe("total", "SELECT count() AS n FROM sales"))
            .await?;
        self.ready("Pipe", "total").await?;
        self.gateway.serves("total", &token).await?;
        Ok(token)
    }

    /// Makes the workspace `shop` with the data source `orders` and the pipe
    /// `by_city`, all from one manifest, ready and known to the gateway; gives a token for everything in it.
    pub async fn orders(&self) -> Result<String> {
        self.apply(SHOP_WITH_ORDERS).await?;
        self.ready("AccessToken", "all").await?;
        self.ready("DataSource", "orders").await?;
        self.ready("Pipe", "by-city").await?;
        let token = self.token_value("all").await?;
        self.gateway.takes("orders", &token).await?;
        self.gateway.serves("by_city", &token).await?;
        Ok(token)
    }
}

/// A pipe of the shop with one node, which is its endpoint.
pub fn pipe(name: &str, sql: &str) -> String {
    let node = format!("{}_node", name.replace('-', "_"));
    let pipe = json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "Pipe",
        "metadata": {"name": name},
        "spec": {
            "workspace": "shop",
            "nodes": [{"name": node, "sql": sql}],
            "endpoint": {"node": node},
        },
    });
    pipe.to_string()
}
