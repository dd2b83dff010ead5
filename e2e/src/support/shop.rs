//! The little tenant that most tests are about: a workspace `shop` with a data
//! source `sales`.

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
