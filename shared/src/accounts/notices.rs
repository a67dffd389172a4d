//! Mails that tell the owner of an account what has happened to it: if it was not them, they should know.

use std::net::IpAddr;

use serde_json::json;

use super::sessions::Device;
use super::store;
use super::user::User;
use crate::error::Result;
use crate::ids::{self, LoginSessionId, UserId};
use crate::mail::{self, Letter};
use crate::tx::Tx;

/// So many sign-ins are looked back at.
const MOST_DEVICES: i64 = 200;
/// More of what a program calls itself is not mailed.
const LONGEST_PROGRAM: usize = 100;

/// Tells of a login from a device, or from a network, that the account was not used from before. Registering is none.
pub(super) async fn of_login(
    tx: &mut Tx,
    user_id: UserId,
    session_id: LoginSessionId,
    device: &Device,
) -> Result<()> {
    let known = store::devices_of(tx, user_id, session_id, MOST_DEVICES).await?;
    if known.iter().any(|known| same(known, device)) {
        return Ok(());
    }
    let Some(user) = store::get(tx, user_id).await? else {
        return Ok(());
    };
    let program = device.user_agent.as_deref().map(printable);
    let params = json!({
        "name": user.full_name,
        "when": tx.now().format("%-d %B %Y, %H:%M UTC").to_string(),
        "address": device.address,
        "program": program,
    });
    tell(
        tx,
        &user,
        "new-device",
        format!("new-device:{session_id}"),
        params,
    )
    .await
}

/// Tells of a new password.
pub(super) async fn of_password(tx: &mut Tx, user: &User) -> Result<()> {
    let cause = format!("password-changed:{}", ids::fresh(tx.now()));
    let params = json!({ "name": user.full_name });
    tell(tx, user, "password-changed", cause, params).await
}

/// Tells the address that the account had until now.
pub(super) async fn of_address(tx: &mut Tx, before: &User) -> Result<()> {
    let cause = format!("address-changed:{}", ids::fresh(tx.now()));
    let params = json!({ "name": before.full_name });
    tell(tx, before, "address-changed", cause, params).await
}

async fn tell(
    tx: &mut Tx,
    user: &User,
    template: &'static str,
    cause: String,
    params: serde_json::Value,
) -> Result<()> {
    let letter = Letter {
        organization_id: None,
        cause,
        recipient: user.email.clone(),
        template,
        locale: user.locale.clone(),
        params,
    };
    mail::write(tx, letter).await?;
    Ok(())
}

/// The same program in the same network.
fn same(known: &Device, device: &Device) -> bool {
    known.user_agent == device.user_agent && network(known) == network(device)
}

/// The 256 addresses of version 4 around it, or the network of version 6 that one customer gets.
fn network(device: &Device) -> Option<String> {
    let address = device.address.as_deref()?;
    Some(match address.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}")
        }
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}")
        }
        Err(_) => address.to_owned(),
    })
}

fn printable(program: &str) -> String {
    let printable = program.chars().filter(|c| !c.is_control());
    printable.take(LONGEST_PROGRAM).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, program: &str) -> Device {
        Device {
            address: Some(address.to_owned()),
            user_agent: Some(program.to_owned()),
        }
    }

    #[test]
    fn a_device_is_known_by_its_program_and_its_network() {
        let known = device("192.0.2.7", "Browser");
        assert!(same(&known, &device("192.0.2.200", "Browser")));
        assert!(!same(&known, &device("192.0.3.7", "Browser")));
        assert!(!same(&known, &device("192.0.2.7", "Other")));
        let known = device("2001:db8:1:2::7", "Browser");
        assert!(same(&known, &device("2001:db8:1:2:ffff::1", "Browser")));
        assert!(!same(&known, &device("2001:db8:1:3::7", "Browser")));
        assert!(same(&Device::default(), &Device::default()));
        assert!(!same(&Device::default(), &device("unknown", "Browser")));
    }

    #[test]
    fn what_a_program_calls_itself_is_one_line() {
        assert_eq!(printable("Browser\r\n\r\nClick here"), "BrowserClick here");
        assert_eq!(printable(&"x".repeat(300)).len(), LONGEST_PROGRAM);
    }
}
