//! Clients of the web: curl, Node, Java, WebSockets.

use std::fs;

use crate::client::AUTHORITY;
use crate::engine::{Engine, Kind};
use crate::world::{SERVER, World};

fn serve(engine: &Engine) -> World<'_> {
    let mut world = World::new(engine);
    for label in ["web", "node", "java"] {
        fs::write(world.www(label).join("greeting"), format!("hello from {label}\n")).unwrap();
    }
    let big: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(world.www("web").join("big"), big).unwrap();
    world.nginx();
    let chat = world.write("chat.py", include_str!("chat.py"));
    let chat = world.start(&["/usr/bin/python3", &chat.to_string_lossy(), "8765"]);
    chat.listens(engine, std::net::Ipv4Addr::LOCALHOST, 8765);
    world.write("Get.java", include_str!("Get.java"));
    world.make("javac", &["--release", "17", "-d", "classes", "Get.java"]);
    engine.write("trust/Get.class", fs::read(world.dir().join("classes/Get.class")).unwrap());
    engine.write("trust/say.py", include_str!("say.py"));
    world
}

/// Where clients that know a proxy find it, as docs/egress.md says.
const PROXY: &str = "http://127.0.0.1:64080";

/// First passed through, with clients that are told whom to trust; then looked into, with clients as they come.
fn web(kind: Kind) {
    let engine = Engine::start(kind);
    let world = serve(&engine);
    world.apply(
        "",
        &[
            "{ host: web.example.org }",
            "{ host: node.example.org, ports: [443] }",
            "{ host: java.example.org, ports: [443] }",
            "{ host: chat.example.org, ports: [443] }",
        ],
    );
    let told = curl(&format!("--cacert {AUTHORITY}"));
    there_and_back(&world, &told);
    world.refused_elsewhere("web", &format!("{told} https://web.example.org/greeting"));
    assert_eq!(world.works("curl -sSf http://web.example.org/greeting"), "hello from web");
    world.refused_elsewhere("web", "curl -sSf http://web.example.org/greeting");

    // As a proxy that the client knows of: the same answers, told to who asks for a tunnel.
    let asked =
        |url: &str| format!("HTTPS_PROXY={PROXY} http_proxy={PROXY} {told} --write-out ' %{{http_connect}}' {url}");
    assert_eq!(world.works(&asked("https://web.example.org/greeting")), "hello from web\n 200");
    assert_eq!(world.works(&asked("http://web.example.org/greeting")), "hello from web\n 000");
    let refused = asked("https://web.example.org/greeting");
    world.refused_elsewhere("web", &refused);
    let refused = format!("{} || true", refused.replace("example.org", "example.net"));
    assert!(world.works(&refused).ends_with(" 403"), "the proxy was asked, and said no");
    world.refused_elsewhere("web", &asked("http://web.example.org/greeting"));

    let told_node = node(&format!("NODE_EXTRA_CA_CERTS={AUTHORITY}"));
    assert_eq!(world.works(&told_node), "200 hello from node");
    world.refused_elsewhere("node", &told_node);

    // Java reads no PEM; its own tool makes a store of it.
    world.works(&format!(
        "keytool -importcert -noprompt -alias world -file {AUTHORITY} -keystore ~/store -storepass changeit 2>&1"
    ));
    let told_java = java("-Djavax.net.ssl.trustStore=$HOME/store -Djavax.net.ssl.trustStorePassword=changeit");
    assert_eq!(world.works(&told_java), "200 HTTP_2 hello from java");
    world.refused_elsewhere("java", &told_java);

    let told_chat = chat(&format!("SSL_CERT_FILE={AUTHORITY}"));
    assert_eq!(world.works(&told_chat), "you said one\nyou said two");
    world.refused_elsewhere("chat", &told_chat);

    // An allowed name leads to no other port, and neither do its address or its certificate lead to another name.
    world.fails_quickly(&format!("{told} https://node.example.org:8443/greeting"));
    let to = |where_to: &str, url: &str| format!("{told} --connect-to ::{where_to}:443 https://{url}/greeting");
    world.fails_quickly(&to(&SERVER.to_string(), "web.example.org"));
    world.fails_quickly(&to("web.example.org", "web.example.net"));
    assert_eq!(world.requests("web.example.net", ""), [""; 0]);

    world.apply(
        "",
        &[
            "{ host: web.example.org, ports: [443], methods: [GET, PUT], paths: [/greeting, /big, /copy] }",
            "{ host: node.example.org, ports: [443], paths: [/greeting] }",
            "{ host: java.example.org, ports: [443], paths: [/greeting] }",
            "{ host: chat.example.org, ports: [443], paths: [/room], upgrade: true }",
        ],
    );
    there_and_back(&world, &curl(""));
    assert_eq!(world.works(&node("")), "200 hello from node");
    assert_eq!(world.works(&java("")), "200 HTTP_2 hello from java");
    assert_eq!(world.works(&chat("")), "you said one\nyou said two");
    for (label, client) in
        [("web", format!("{} https://web.example.org/greeting", curl(""))), ("node", node("")), ("java", java(""))]
    {
        world.refused_there(&format!("{label}.example.org"), "/secret", &client.replace("/greeting", "/secret"));
    }
    world.refused_there("chat.example.org", "/secret", &chat("").replace("/room", "/secret"));
    world.fails_quickly(&format!("{} --request DELETE https://web.example.org/copy", curl("")));
    assert_eq!(world.requests("web.example.org", "DELETE"), [""; 0]);
}

fn curl(options: &str) -> String {
    format!("curl --silent --show-error --fail {options}")
}

/// Little and much, up and down, and a part.
fn there_and_back(world: &World<'_>, curl: &str) {
    let get = format!("{curl} --write-out '%{{http_version}} %{{ssl_verify_result}}' https://web.example.org/greeting");
    assert_eq!(world.works(&get), "hello from web\n2 0");
    let script = format!(
        "{curl} https://web.example.org/big --output ~/big && {curl} --upload-file ~/big https://web.example.org/copy && \
         {curl} https://web.example.org/copy | cmp - ~/big && {curl} --range 4000-4003 https://web.example.org/copy | od -An -td4"
    );
    assert_eq!(world.works(&script).trim(), "1000");
    let copy = world.www("web").join("copy");
    assert_eq!(fs::metadata(&copy).unwrap().len(), 12_000_000);
    fs::remove_file(copy).unwrap();
}

fn node(environment: &str) -> String {
    format!(
        "{environment} node -e \"require('https').get('https://node.example.org/greeting', r => {{ r.pipe(process.stdout); \
         process.stdout.write(r.statusCode + ' '); process.exitCode = r.statusCode === 200 ? 0 : 1 }})\""
    )
}

fn java(options: &str) -> String {
    format!("java {options} -cp /opt/trust Get https://java.example.org/greeting")
}

fn chat(environment: &str) -> String {
    format!("{environment} /usr/bin/python3 /opt/trust/say.py wss://chat.example.org/room one two")
}

#[test]
fn web_rootful_4() {
    web(Kind::Rootful4);
}

#[test]
fn web_rootless_4() {
    web(Kind::Rootless4);
}
