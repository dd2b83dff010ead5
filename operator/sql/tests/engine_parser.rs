//! Names and literals through ClickHouse's own parser: what is quoted here
//! must come back as it went in, whatever characters it has.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use aviary_engine::{Engine, EngineConfig};
use aviary_sql::scanner::Scanner;
use aviary_sql::{Identifier, StringLiteral, Template};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Asks a real engine, one per process.
struct Oracle {
    runtime: tokio::runtime::Runtime,
    address: String,
    http: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Oracle {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let data = tempfile::tempdir().unwrap();
        aviary_engine::library::install().unwrap();
        let mut config = EngineConfig::new(data.path());
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let engine = runtime.block_on(Engine::start(config)).unwrap();
        let address = format!("http://{}/", engine.address());
        // The engine serves for as long as the process lives.
        std::mem::forget(engine);
        Self {
            runtime,
            address,
            http: reqwest::Client::new(),
            _data: data,
        }
    }

    /// The first value of a query's answer, byte for byte.
    fn ask(&self, sql: &str, parameters: &[(String, String)]) -> Result<Vec<u8>, String> {
        self.runtime.block_on(async {
            let mut request = self
                .http
                .post(&self.address)
                .query(&[("default_format", "RawBLOB")]);
            for (name, value) in parameters {
                request = request.query(&[(format!("param_{name}"), value)]);
            }
            let response = request
                .body(sql.to_owned())
                .send()
                .await
                .map_err(|e| e.to_string())?;
            let ok = response.status().is_success();
            let body = response.bytes().await.map_err(|e| e.to_string())?.to_vec();
            if ok {
                Ok(body)
            } else {
                Err(String::from_utf8_lossy(&body).into_owned())
            }
        })
    }
}

#[test]
fn what_is_quoted_comes_back_as_it_went_in() {
    let oracle = Oracle::start();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));

    runner
        .run(&"\\PC*|(?s).*", |text| {
            let answer = oracle.ask(&format!("SELECT {}", StringLiteral(&text)), &[]);
            prop_assert_eq!(answer, Ok(text.into_bytes()), "a literal");
            Ok(())
        })
        .unwrap();

    runner
        .run(&"(?s)[^\0]{1,40}", |name| {
            let identifier = Identifier::new(name.clone()).unwrap();
            // The analyzer names the column after the alias, so the alias comes back as data.
            let sql = format!("SELECT name FROM (DESCRIBE TABLE (SELECT 1 AS {identifier}))");
            let answer = oracle.ask(&sql, &[]);
            prop_assert_eq!(answer, Ok(name.into_bytes()), "a name");
            Ok(())
        })
        .unwrap();

    let template = Template::parse("SELECT {{ String(value) }}").unwrap();
    runner
        .run(&"(?s)[^\0]*", |text| {
            let rendered = template
                .render(&[("value".to_owned(), text.clone())].into_iter().collect())
                .unwrap();
            let answer = oracle.ask(&rendered.sql, &rendered.parameters);
            prop_assert_eq!(answer, Ok(text.into_bytes()), "a parameter");
            Ok(())
        })
        .unwrap();

    // Whatever is escaped, and however: the scanner reads what ClickHouse reads.
    let written = "'([^'\\\\]|''|\\\\[^x]|\\\\x[0-7][0-9a-fA-F])*'";
    runner
        .run(&written, |written| {
            let read = Scanner::new(&written)
                .next()
                .and_then(|token| token.string(&written));
            let answer = oracle.ask(&format!("SELECT {written}"), &[]);
            prop_assert_eq!(answer.ok(), read.map(String::into_bytes), "a written text");
            Ok(())
        })
        .unwrap();
}
