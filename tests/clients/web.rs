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

/// TLS goes through as it is: clients know the server's authority by their own options.
fn passed_through(kind: Kind) {
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

    let curl = format!("curl --silent --show-error --fail --cacert {AUTHORITY}");
    let get = format!("{curl} --write-out '%{{http_version}} %{{ssl_verify_result}}' https://web.example.org/greeting");
    assert_eq!(world.works(&get), "hello from web\n2 0");
    world.refused_elsewhere("web", &get);
    assert_eq!(world.works("curl -sSf http://web.example.org/greeting"), "hello from web");
    world.refused_elsewhere("web", "curl -sSf http://web.example.org/greeting");
    // Much, and there and back.
    let there_and_back = format!(
        "{curl} https://web.example.org/big --output ~/big && {curl} --upload-file ~/big https://web.example.org/copy && \
         {curl} https://web.example.org/copy | cmp - ~/big && {curl} --range 4000-4003 https://web.example.org/copy | od -An -td4"
    );
    assert_eq!(world.works(&there_and_back).trim(), "1000");
    assert_eq!(fs::metadata(world.www("web").join("copy")).unwrap().len(), 12_000_000);

    let node = node(&format!("NODE_EXTRA_CA_CERTS={AUTHORITY}"));
    assert_eq!(world.works(&node), "200 hello from node");
    world.refused_elsewhere("node", &node);

    // Java reads no PEM; its own tool makes a store of it.
    world.works(&format!(
        "keytool -importcert -noprompt -alias world -file {AUTHORITY} -keystore ~/store -storepass changeit 2>&1"
    ));
    let java = "java -Djavax.net.ssl.trustStore=$HOME/store -Djavax.net.ssl.trustStorePassword=changeit -cp /opt/trust Get https://java.example.org/greeting";
    assert_eq!(world.works(java), "200 HTTP_2 hello from java");
    world.refused_elsewhere("java", java);

    let chat = format!("SSL_CERT_FILE={AUTHORITY} python3 /opt/trust/say.py wss://chat.example.org/room one two");
    assert_eq!(world.works(&chat), "you said one\nyou said two");
    world.refused_elsewhere("chat", &chat);

    // The allowed name leads to no other port, and its address to no other name.
    world.fails_quickly(&format!("{curl} https://node.example.org:80/greeting"));
    world.fails_quickly(&format!(
        "{curl} --connect-to web.example.org:443:{SERVER}:443 https://web.example.org/greeting"
    ));
    world.fails_quickly(&format!(
        "{curl} --connect-to web.example.net:443:web.example.org:443 https://web.example.net/greeting"
    ));
    assert!(world.requests("web.example.net", "").is_empty());
}

fn node(environment: &str) -> String {
    format!(
        "{environment} node -e \"require('https').get('https://node.example.org/greeting', r => r.on('data', \
         d => process.stdout.write(r.statusCode + ' ' + d)))\""
    )
}

#[test]
fn passed_through_rootful_4() {
    passed_through(Kind::Rootful4);
}

#[test]
fn passed_through_rootless_4() {
    passed_through(Kind::Rootless4);
}
