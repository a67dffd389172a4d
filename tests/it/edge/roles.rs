//! The product as a role of the database that may do nothing but read and write rows.

use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tests::{Database, migrate, world_with};

use crate::orders::{bought, card_order, event_of};

const ROLES: &str = include_str!("../../../docker/postgres/roles.sql");
const PASSWORD: &str = "k7Qd2vXw9mZr";

/// The address of the same database for somebody else.
fn as_role(url: &str, role: &str, password: &str) -> String {
    let (_, place) = url.split_once('@').expect("a user");
    format!("postgres://{role}:{password}@{place}")
}

/// The servers of the tests have a superuser with the password of their usual role.
fn as_superuser(url: &str) -> String {
    let (before, _) = url.split_once('@').expect("a user");
    let (_, password) = before.rsplit_once(':').expect("a password");
    as_role(url, "postgres", password)
}

async fn run(url: &str, sql: &'static str) -> sqlx::Result<()> {
    let mut db = PgConnection::connect(url).await?;
    db.execute(sqlx::raw_sql(sql)).await?;
    db.close().await
}

#[tokio::test]
async fn the_product_sells_as_a_role_that_may_not_change_the_schema() {
    let database = Database::empty().await;
    let superuser = as_superuser(&database.url);
    // Safe to run again.
    for _ in 0..2 {
        run(&superuser, ROLES)
            .await
            .expect("a superuser makes roles");
    }
    let passwords = "alter role holdfast_owner password 'k7Qd2vXw9mZr';
                     alter role holdfast_app password 'k7Qd2vXw9mZr'";
    run(&superuser, passwords).await.expect("passwords");
    migrate(&as_role(&database.url, "holdfast_owner", PASSWORD)).await;

    let app = as_role(&database.url, "holdfast_app", PASSWORD);
    world_with(&[("DATABASE_URL", &app)], async |world| {
        let may: (bool, bool, bool) = sqlx::query_as(
            "select rolsuper, rolcreaterole, has_database_privilege(current_database(), 'create')
             from pg_roles where rolname = current_user",
        )
        .fetch_one(world.app.pool())
        .await
        .expect("a role");
        assert_eq!(may, (false, false, false));
        for refused in [
            "create table mine (id int)",
            "alter table orders add column mine int",
            "drop table venues",
            "create schema mine",
            "truncate ledger",
        ] {
            let error = run(&app, refused).await.expect_err(refused);
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{refused}: {error}");
        }
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        assert_eq!(order["status"], json!("paid"));
    })
    .await;
    let back = "do $$ begin execute format('alter database %I owner to holdfast', current_database()); end $$";
    run(&superuser, back).await.expect("given back");
    database.remove().await;
}
