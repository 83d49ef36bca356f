//! Honest lines, hostile lines, and any bytes at all.

use proptest::prelude::*;

use super::*;

const READY: &str = r#"{"v":1,"phase":"ready","reason":"","uplink":{"interface":"eth0","mac":"52:54:00:12:34:56","driver":"e1000e","address":"10.0.2.15/24","gateway":"10.0.2.2","dns":["10.0.2.3"]},"ruleset":true,"forwarding":true,"leases":[{"mac":"02:00:00:00:ee:0c","address":"100.64.0.100","name":"c","expires":1700000000}],"denied":3}"#;

#[test]
fn parse_ready_line_gives_every_field() {
    let state = State::parse(READY.as_bytes()).unwrap();
    assert_eq!(state.phase, Phase::Ready);
    let uplink = state.uplink.as_ref().unwrap();
    assert_eq!(uplink.address.to_string(), "10.0.2.15/24");
    assert_eq!(uplink.gateway.0, Some(Ipv4Addr::new(10, 0, 2, 2)));
    assert_eq!(state.leases[0].name.as_str(), "c");
    assert_eq!(state.denied, 3);
    // What the host prints is what netvm said.
    assert_eq!(serde_json::to_string(&state).unwrap(), READY);
}

#[test]
fn parse_null_gateway_means_none_and_a_missing_one_is_refused() {
    let line = READY.replace(r#""gateway":"10.0.2.2""#, r#""gateway":null"#);
    let state = State::parse(line.as_bytes()).unwrap();
    assert_eq!(state.uplink.unwrap().gateway.to_string(), "no gateway");
    let line = READY.replace(r#""gateway":"10.0.2.2","#, "");
    assert!(State::parse(line.as_bytes()).is_err());
}

#[test]
fn parse_hostile_variants_are_refused() {
    for (from, to) in [
        (r#""v":1"#, r#""v":2"#),
        (r#""v":1"#, r#""v":-1"#),
        (r#""phase":"ready""#, r#""phase":"READY""#),
        (r#""phase":"ready""#, r#""phase":"ready","phase":"failed""#),
        (r#""denied":3"#, r#""denied":3,"extra":1"#),
        (r#""denied":3"#, r#""denied":-3"#),
        (r#""denied":3"#, r#""denied":99999999999999999999"#),
        (r#""denied":3"#, r#""denied":1e3"#),
        (r#""reason":"""#, r#""reason":"\u001b[2J""#),
        (r#""reason":"""#, "\"reason\":\"\u{202e}\""),
        (r#""reason":"""#, r#""reason":null"#),
        (r#""interface":"eth0""#, r#""interface":"""#),
        (r#""interface":"eth0""#, r#""interface":"../../etc""#),
        (r#""interface":"eth0""#, r#""interface":"aaaaaaaaaaaaaaaa""#),
        (r#""driver":"e1000e""#, r#""driver":"e1000e\n""#),
        (r#""mac":"52:54:00:12:34:56""#, r#""mac":"ff:ff:ff:ff:ff:ff""#),
        (r#""address":"10.0.2.15/24""#, r#""address":"10.0.2.15/33""#),
        (r#""gateway":"10.0.2.2""#, r#""gateway":"10.0.2.256""#),
        (r#""gateway":"10.0.2.2""#, r#""gateway":"::1""#),
        (r#""name":"c""#, r#""name":"c;reboot""#),
        (r#""name":"c""#, r#""name":"<b>""#),
        (r#""expires":1700000000"#, r#""expires":"soon""#),
        (r#""ruleset":true"#, r#""ruleset":1"#),
        (r#""ruleset":true,"#, ""),
        ("}]", "}],[]"),
    ] {
        assert!(READY.contains(from), "{from}");
        let line = READY.replacen(from, to, 1);
        let error = State::parse(line.as_bytes()).unwrap_err();
        assert!(error.to_string().bytes().all(|b| (b' '..=b'~').contains(&b)), "{error}");
    }
    for end in 0..READY.len() {
        assert!(State::parse(&READY.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    assert!(State::parse(&b"[".repeat(MAX_LINE)).is_err());
}

#[test]
fn parse_more_leases_or_servers_than_allowed_is_refused() {
    let lease = r#"{"mac":"02:00:00:00:ee:0c","address":"1.2.3.4","name":"c","expires":0}"#;
    let line = |count: usize| {
        let begin = READY.find("\"leases\":[").unwrap() + 10;
        let end = READY.find("],\"denied\"").unwrap();
        format!("{}{}{}", &READY[..begin], vec![lease; count].join(","), &READY[end..])
    };
    assert!(State::parse(line(MAX_LEASES).as_bytes()).is_ok());
    assert!(State::parse(line(MAX_LEASES + 1).as_bytes()).is_err());
    let servers = vec!["\"1.1.1.1\""; MAX_DNS + 1].join(",");
    let many = READY.replace("\"10.0.2.3\"", &servers);
    assert!(State::parse(many.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn parse_line_with_one_byte_changed_is_refused_or_still_printable(
        at in 0..READY.len(),
        byte in any::<u8>(),
    ) {
        let mut line = READY.as_bytes().to_vec();
        line[at] = byte;
        if let Ok(state) = State::parse(&line) {
            let shown = serde_json::to_string(&state).unwrap();
            prop_assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
    }
}
