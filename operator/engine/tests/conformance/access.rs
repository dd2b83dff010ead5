//! Users and their rights.

use super::harness::{Caller, unique};
use super::shared::{admin, caller, database};

/// A user with a password of his own name.
pub(crate) async fn user(clauses: &str) -> (String, Caller) {
    let name = unique("user");
    admin()
        .ok(&format!(
            "CREATE USER {name} IDENTIFIED WITH sha256_password BY '{name}' {clauses}"
        ))
        .await;
    let caller = caller(&name, &name);
    (name, caller)
}

pub(crate) async fn table(database: &str, name: &str) {
    admin()
        .ok(&format!(
            "CREATE TABLE {database}.{name} (a UInt32, owner String) ENGINE = MergeTree ORDER BY a"
        ))
        .await;
    admin()
        .ok(&format!(
            "INSERT INTO {database}.{name} SELECT number, ['x', 'y'][number % 2 + 1] FROM numbers(10)"
        ))
        .await;
}

#[tokio::test]
async fn a_tenant_reads_his_database_and_nothing_else() {
    let (own, other) = (database().await, database().await);
    table(&own, "t").await;
    table(&other, "t").await;
    let (name, tenant) = user("").await;
    admin()
        .ok(&format!("GRANT SELECT ON {own}.* TO {name}"))
        .await;

    assert_eq!(
        tenant.ok(&format!("SELECT count() FROM {own}.t")).await,
        "10\n"
    );
    let refused = tenant.post(format!("SELECT count() FROM {other}.t")).await;
    assert_eq!(refused.exception(), Some(497));
    assert_eq!(refused.status, 403);
    assert!(
        refused
            .text()
            .contains(&format!("DB::Exception: {name}: Not enough privileges")),
        "{}",
        refused.text()
    );
    let listed = tenant
        .ok(&format!(
            "SELECT DISTINCT database FROM system.tables WHERE database IN ('{own}', '{other}')"
        ))
        .await;
    assert_eq!(listed, format!("{own}\n"));
    for query in [
        format!("INSERT INTO {own}.t VALUES (1, '')"),
        format!("CREATE TABLE {own}.u (a Int8) ENGINE = Memory"),
        format!("DROP TABLE {own}.t"),
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')".to_owned(),
        "SELECT * FROM file('/etc/hostname', 'LineAsString')".to_owned(),
        "SELECT * FROM s3('http://127.0.0.1:9/bucket/key', 'CSV', 'a Int8')".to_owned(),
        "SELECT * FROM remote('127.0.0.1', system.one)".to_owned(),
        "CREATE USER sneaky".to_owned(),
        format!("GRANT SELECT ON {other}.* TO {name}"),
        "SYSTEM FLUSH LOGS".to_owned(),
    ] {
        assert_eq!(tenant.fails(&query).await, 497, "{query}");
    }
}

#[tokio::test]
async fn roles_cannot_be_taken() {
    let own = database().await;
    table(&own, "t").await;
    let (name, tenant) = user("").await;
    let role = unique("role");
    admin().ok(&format!("CREATE ROLE {role}")).await;
    admin()
        .ok(&format!("GRANT SELECT ON {own}.* TO {role}"))
        .await;
    let query = format!("SELECT count() FROM {own}.t");
    assert_eq!(tenant.fails(&query).await, 497);
    for theft in [
        "SET ROLE `aviary-user-default`".to_owned(),
        format!("SET ROLE {role}"),
        format!("SELECT 1; SET ROLE {role}; {query}"),
        format!("EXECUTE AS default {query}"),
        format!("DROP TABLE {own}.u PARALLEL WITH DROP TABLE {own}.t"),
    ] {
        let code = tenant.fails(&theft).await;
        assert!([62, 497].contains(&code), "{theft}: {code}");
    }
    assert_eq!(tenant.fails(&query).await, 497);
    admin().ok(&format!("GRANT {role} TO {name}")).await;
    assert_eq!(tenant.ok(&query).await, "10\n");
    admin().ok(&format!("REVOKE {role} FROM {name}")).await;
    assert_eq!(tenant.fails(&query).await, 497);
}

#[tokio::test]
async fn grants_come_and_go() {
    let own = database().await;
    table(&own, "t").await;
    let (name, tenant) = user("").await;
    let all = format!("SELECT count() FROM {own}.t WHERE NOT ignore(*)");
    let one = format!("SELECT count(a) FROM {own}.t WHERE NOT ignore(a)");

    admin()
        .ok(&format!("GRANT SELECT(a) ON {own}.t TO {name}"))
        .await;
    assert_eq!(tenant.ok(&one).await, "10\n");
    assert_eq!(tenant.fails(&all).await, 497);
    admin()
        .ok(&format!(
            "GRANT SELECT ON {own}.* TO {name} WITH GRANT OPTION"
        ))
        .await;
    assert_eq!(tenant.ok(&all).await, "10\n");
    let (friend, friendly) = user("").await;
    tenant
        .ok(&format!("GRANT SELECT ON {own}.t TO {friend}"))
        .await;
    assert_eq!(friendly.ok(&all).await, "10\n");
    admin()
        .ok(&format!("REVOKE SELECT ON {own}.t FROM {friend}"))
        .await;
    assert_eq!(friendly.fails(&all).await, 497);
    admin().ok(&format!("REVOKE ALL ON *.* FROM {name}")).await;
    assert_eq!(tenant.fails(&one).await, 497);
}

#[tokio::test]
async fn system_tables_tell_of_users() {
    let own = database().await;
    let (name, tenant) = user("").await;
    let role = unique("role");
    admin().ok(&format!("CREATE ROLE {role}")).await;
    admin()
        .ok(&format!("GRANT INSERT ON {own}.* TO {role}"))
        .await;
    admin()
        .ok(&format!("GRANT SELECT ON {own}.* TO {name}"))
        .await;
    admin().ok(&format!("GRANT {role} TO {name}")).await;

    let rows = |query: String| async move { admin().ok(&query).await };
    assert_eq!(
        rows(format!(
            "SELECT name, auth_type FROM system.users WHERE name = '{name}'"
        ))
        .await,
        format!("{name}\t['sha256_password']\n")
    );
    assert_eq!(
        rows(format!(
            "SELECT access_type, database FROM system.grants WHERE user_name = '{name}'"
        ))
        .await,
        format!("SELECT\t{own}\n")
    );
    assert_eq!(
        rows(format!(
            "SELECT access_type, database FROM system.grants WHERE role_name = '{role}'"
        ))
        .await,
        format!("INSERT\t{own}\n")
    );
    assert_eq!(
        rows(format!(
            "SELECT granted_role_name FROM system.role_grants WHERE user_name = '{name}'"
        ))
        .await,
        format!("{role}\n")
    );
    assert_eq!(
        rows("SELECT count() FROM system.roles WHERE name LIKE 'aviary%'".to_owned()).await,
        "0\n"
    );
    assert_eq!(
        rows(format!("SHOW GRANTS FOR {name}")).await,
        format!("GRANT SELECT ON {own}.* TO {name}\nGRANT {role} TO {name}\n")
    );
    admin()
        .ok(&format!(
            "ALTER USER {name} SETTINGS max_threads = '2' MAX '4' CONST"
        ))
        .await;
    assert_eq!(
        rows(format!("SHOW CREATE USER {name} FORMAT TSVRaw")).await,
        format!(
            "CREATE USER `{name}` IDENTIFIED WITH sha256_password SETTINGS max_threads = '2' MAX '4' CONST\n"
        )
    );
    assert_eq!(tenant.fails("SHOW CREATE USER default").await, 497);
    assert_eq!(tenant.fails("SELECT * FROM system.users").await, 497);
}

#[tokio::test]
async fn existence_is_judged_as_by_a_server() {
    let (name, _) = user("").await;
    let role = unique("role");
    admin().ok(&format!("CREATE ROLE {role}")).await;
    for (statement, code) in [
        (format!("CREATE USER {name}"), 493),
        (format!("CREATE ROLE {role}"), 493),
        ("DROP USER nobody_at_all".to_owned(), 192),
        (
            "ALTER USER nobody_at_all SETTINGS max_threads = 1".to_owned(),
            192,
        ),
        ("DROP ROLE no_role_at_all".to_owned(), 511),
        (format!("GRANT no_role_at_all TO {name}"), 511),
        ("GRANT SELECT ON *.* TO nobody_at_all".to_owned(), 511),
        (
            format!("ALTER USER {name} SETTINGS PROFILE 'no_profile_at_all'"),
            180,
        ),
        (
            format!("ALTER USER {name} SETTINGS no_setting_at_all = 1"),
            115,
        ),
        ("DROP ROW POLICY nothing ON system.one".to_owned(), 523),
        (
            "ALTER USER default IDENTIFIED WITH no_password".to_owned(),
            495,
        ),
        ("GRANT SELECT ON *.* TO default".to_owned(), 495),
        (
            format!("CREATE QUOTA q FOR INTERVAL 1 hour MAX queries = 1 TO {name}"),
            48,
        ),
        ("CREATE USER `a.b`".to_owned(), 48),
        ("CREATE USER".to_owned(), 62),
    ] {
        assert_eq!(admin().fails(&statement).await, code, "{statement}");
    }
    for statement in [
        format!("CREATE USER IF NOT EXISTS {name} IDENTIFIED WITH no_password"),
        format!("CREATE USER OR REPLACE {name} IDENTIFIED BY 'other'"),
        "DROP USER IF EXISTS nobody_at_all".to_owned(),
        "DROP ROLE IF EXISTS no_role_at_all".to_owned(),
        "DROP ROW POLICY IF EXISTS nothing ON system.one".to_owned(),
    ] {
        admin().ok(&statement).await;
    }
    assert_eq!(caller(&name, &name).fails("SELECT 1").await, 516);
    assert_eq!(caller(&name, "other").ok("SELECT 1").await, "1\n");
    admin().ok(&format!("DROP USER {name}")).await;
    assert_eq!(caller(&name, "other").fails("SELECT 1").await, 516);
}

#[tokio::test]
async fn limits_hold() {
    let profile = unique("limits");
    admin()
        .ok(&format!(
            "CREATE SETTINGS PROFILE {profile} SETTINGS readonly = 2, max_threads = 2 MIN 1 MAX 4, \
             max_result_rows = 5 CONST, max_memory_usage = 100000000 MAX 200000000"
        ))
        .await;
    let (name, tenant) = user(&format!("SETTINGS PROFILE '{profile}'")).await;
    admin()
        .ok(&format!(
            "GRANT CREATE TABLE, TABLE ENGINE ON *.* TO {name}"
        ))
        .await;
    assert_eq!(
        tenant
            .ok("SELECT getSetting('max_threads'), getSetting('readonly'), getSetting('max_memory_usage')")
            .await,
        "2\t2\t100000000\n"
    );
    assert_eq!(
        tenant
            .with("max_threads", "4")
            .ok("SELECT getSetting('max_threads')")
            .await,
        "4\n"
    );
    for (name, value, code) in [
        ("max_threads", "5", 452),
        ("max_result_rows", "6", 452),
        ("max_memory_usage", "300000000", 452),
        ("readonly", "0", 164),
        ("no_setting_at_all", "1", 115),
    ] {
        let answer = tenant.with(name, value).post("SELECT 1").await;
        assert_eq!(answer.exception(), Some(code), "{name}: {}", answer.text());
    }
    for (query, code) in [
        ("SELECT 1 SETTINGS max_threads = 5", 452),
        ("SELECT number FROM numbers(6)", 396),
        ("SELECT groupArray(number) FROM numbers(50000000)", 241),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", 164),
    ] {
        assert_eq!(tenant.fails(query).await, code, "{query}");
    }
    // Leaving the profile by naming another does not lift its limits.
    assert_eq!(
        tenant
            .fails("SELECT 1 SETTINGS profile = 'default', max_threads = 8")
            .await,
        452
    );
}

#[tokio::test]
async fn a_writer_feeds_views_he_cannot_see() {
    let own = database().await;
    let admin_here = admin().with("database", &own);
    admin_here
        .ok("CREATE TABLE landing (raw String) ENGINE = Null")
        .await;
    admin_here
        .ok("CREATE TABLE rows (a UInt32) ENGINE = MergeTree ORDER BY a")
        .await;
    admin_here
        .ok("CREATE TABLE quarantine (raw String) ENGINE = MergeTree ORDER BY raw")
        .await;
    let (owner, owning) = user("").await;
    admin()
        .ok(&format!("GRANT ALL ON {own}.* TO {owner}"))
        .await;
    let owning = owning.with("database", &own);
    owning
        .ok("CREATE MATERIALIZED VIEW good TO rows AS SELECT toUInt32OrNull(raw) AS a FROM landing WHERE toUInt32OrNull(raw) IS NOT NULL")
        .await;
    admin_here
        .ok("CREATE MATERIALIZED VIEW bad TO quarantine AS SELECT raw FROM landing WHERE toUInt32OrNull(raw) IS NULL")
        .await;
    let definition = admin_here.ok("SHOW CREATE TABLE good").await;
    assert!(
        definition.contains(&format!("DEFINER = {owner} SQL SECURITY DEFINER")),
        "{definition}"
    );

    let (writer, writing) = user("").await;
    admin()
        .ok(&format!("GRANT INSERT ON {own}.landing TO {writer}"))
        .await;
    let writing = writing.with("database", &own);
    writing
        .ok("INSERT INTO landing FORMAT LineAsString\n1\ntwo\n3\n")
        .await;
    assert_eq!(
        admin_here.ok("SELECT * FROM rows ORDER BY a").await,
        "1\n3\n"
    );
    assert_eq!(admin_here.ok("SELECT * FROM quarantine").await, "two\n");
    for query in [
        "INSERT INTO rows VALUES (1)",
        "INSERT INTO quarantine VALUES ('x')",
        "SELECT * FROM rows",
    ] {
        assert_eq!(writing.fails(query).await, 497, "{query}");
    }
}

#[tokio::test]
async fn row_policies_filter() {
    let own = database().await;
    table(&own, "t").await;
    let (first, reader) = user("").await;
    let (second, other) = user("").await;
    for name in [&first, &second] {
        admin()
            .ok(&format!("GRANT SELECT ON {own}.* TO {name}"))
            .await;
    }
    let query = format!("SELECT count(), uniq(owner) FROM {own}.t");
    assert_eq!(reader.ok(&query).await, "10\t2\n");
    admin()
        .ok(&format!(
            "CREATE ROW POLICY p ON {own}.t FOR SELECT USING owner = 'x' TO {first}"
        ))
        .await;
    assert_eq!(reader.ok(&query).await, "5\t1\n");
    assert_eq!(other.ok(&query).await, "10\t2\n");
    assert_eq!(
        reader
            .ok(&format!("SELECT count() FROM merge('{own}', '^t$')"))
            .await,
        "5\n"
    );
    admin()
        .ok(&format!("CREATE ROW POLICY q ON {own}.t FOR SELECT USING a < 4 AS RESTRICTIVE TO ALL EXCEPT {second}"))
        .await;
    assert_eq!(reader.ok(&query).await, "2\t1\n");
    assert_eq!(other.ok(&query).await, "10\t2\n");
    admin()
        .ok(&format!("ALTER ROW POLICY p ON {own}.t USING owner != ''"))
        .await;
    assert_eq!(reader.ok(&query).await, "4\t2\n");
    admin()
        .ok(&format!("DROP ROW POLICY p, q ON {own}.t"))
        .await;
    assert_eq!(reader.ok(&query).await, "10\t2\n");
}

#[tokio::test]
async fn doors_need_the_password() {
    let (name, _) = user("").await;
    let answer = caller(&name, "wrong").post("SELECT 1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.exception()),
        (403, Some(516))
    );
    let answer = caller("nobody_at_all", "wrong").post("SELECT 1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.exception()),
        (403, Some(516))
    );
    let anonymous = reqwest::get(format!(
        "http://{}/?query=SELECT+1",
        super::shared::address()
    ))
    .await
    .unwrap();
    assert_eq!(anonymous.status(), 401);
    assert!(anonymous.headers().contains_key("www-authenticate"));
}
