//! The gateway itself over HTTP (docs/promises.md, B5 and C14).

use serde_json::Value;

use crate::support::{
    gateway::Gateway,
    ports,
    programs::{self, curl},
    site::Site,
    wait,
};

const PRINCIPALS: &str = "
[[principal]]
name = \"chief\"
password = { file = \"secrets/chief.hash\" }
tokens = { file = \"secrets/chief.tokens\" }
[[principal]]
name = \"press-7\"
tokens = { file = \"secrets/press-7.tokens\" }
[[access]]
principal = \"*\"
publish = [\"#\"]
subscribe = [\"#\"]
";

const MANAGER: &str = "[[access]]\nprincipal = \"chief\"\nmanage = \"read\"\n";

fn config(port: u16, more: &str) -> String {
    format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[http]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n{PRINCIPALS}{more}"
    )
}

/// identity.5: the status takes a token and a right of its own, on loopback, too; neither `anonymous` nor a password,
/// which a browser sends unasked, is enough.
#[test]
fn identity_05_management_takes_a_token_even_on_loopback() {
    let port = ports::free_port();
    let mut gateway = Gateway::prepare(&Site::new(&config(port, MANAGER), &[]));
    let secrets = gateway.folder().join("secrets").display().to_string();
    let token = |name: &str| {
        let said = programs::tidegate(&["token", "add", name, "--secrets", &secrets]);
        let token = said.stdout.split_whitespace().find(|word| word.starts_with("tg_"));
        token.expect("a token is printed").to_owned()
    };
    let (chief, press) = (token("chief"), token("press-7"));
    programs::tidegate_with_input(&["user", "add", "chief", "--secrets", &secrets], "secret\n");
    gateway.start_again();

    let url = format!("http://127.0.0.1:{port}/v1/status");
    let ask = |more: &[&str]| curl(&[more, &[&url]].concat());
    let bearer = |token: &str| ask(&["-H", &format!("Authorization: Bearer {token}")]);
    assert_eq!(ask(&[]).0, 401);
    assert_eq!(ask(&["-u", "chief:secret"]).0, 401);
    assert_eq!(bearer("tg_nobody").0, 401);
    assert_eq!(bearer(&press).0, 403);
    assert_eq!(ask(&["-H", "Host: attacker.example"]).0, 403);
    let token = format!("Authorization: Bearer {chief}");
    assert_eq!(ask(&["-H", "Origin: https://attacker.example", "-H", &token]).0, 403);
    let (code, headers) = ask(&["-D", "-", "-o", "/dev/null"]);
    assert_eq!(code, 401);
    assert!(headers.contains("www-authenticate: Bearer realm=\"tidegate\""), "{headers}");

    let (code, body) = bearer(&chief);
    assert_eq!(code, 200, "{body}");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status["gateway"], "gw");
    assert_eq!(status["listeners"][0]["address"], format!("127.0.0.1:{port}"));
    for planted in [&chief, "secret", "argon2"] {
        assert!(!body.contains(planted), "{body}");
    }

    let acl = |right: &str| {
        let file = gateway.folder().join("tidegate.toml").display().to_string();
        programs::tidegate(&["acl", "test", "-c", &file, "chief", "manage", right]).code
    };
    assert_eq!([acl("read"), acl("write")], [Some(0), Some(1)]);

    gateway.write("tidegate.toml", &config(port, ""));
    wait::until("the right to be withdrawn", || (bearer(&chief).0 == 403).then_some(()));
    assert_eq!(gateway.terminate().code(), Some(0));
}
