//! `[[allow]]` and `[[forward]]`.

use super::{accept, refuse};

const TWO_GUESTS: &str =
    "[[guest]]\nname = \"a\"\n[[guest]]\nname = \"b\"\naddress = \"100.127.77.9\"\n";

#[track_caller]
fn refuse_rule(rule: &str, wanted: &[(&str, &str)]) {
    refuse(&format!("{TWO_GUESTS}{rule}"), wanted);
}

#[test]
fn rule_with_unknown_guest_is_refused() {
    let code = "netvm::rule::unknown_guest";
    refuse_rule("[[allow]]\nfrom = \"a\"\nto = \"c\"", &[(code, "\"c\"")]);
    refuse_rule("[[allow]]\nfrom = \"netvm\"\nto = \"b\"", &[(code, "\"netvm\"")]);
    refuse_rule("[[allow]]\nfrom = \"spare-1\"\nto = \"b\"", &[(code, "\"spare-1\"")]);
    accept(&format!("spare_links = 1\n{TWO_GUESTS}[[allow]]\nfrom = \"spare-1\"\nto = \"b\""));
    refuse_rule("[[forward]]\nprotocol = \"tcp\"\nport = 80\nto = \"c\"", &[(code, "\"c\"")]);
}

#[test]
fn rule_to_a_guest_with_a_wrong_name_is_not_reported_twice() {
    refuse(
        "[[guest]]\nname = \"a\"\n[[guest]]\nname = \"B\"\n[[allow]]\nfrom = \"a\"\nto = \"B\"",
        &[("netvm::guest::name", "\"B\"")],
    );
}

#[test]
fn rule_to_itself_is_refused() {
    refuse_rule("[[allow]]\nfrom = \"a\"\nto = 'a'", &[("netvm::rule::to_itself", "'a'")]);
}

#[test]
fn incomplete_rule_is_refused() {
    let code = "netvm::rule::incomplete";
    refuse_rule("[[allow]]", &[(code, "[[allow]]"), (code, "[[allow]]")]);
    let three = [(code, "[[forward]]"); 3];
    refuse_rule("[[forward]]", &three);
}

#[test]
fn ports_are_checked() {
    let rule = "[[allow]]\nfrom = \"a\"\nto = \"b\"\nprotocol = \"tcp\"\n";
    let code = "netvm::rule::port";
    refuse_rule(
        &format!("{rule}ports = [0, 65536, -1]"),
        &[(code, "0"), (code, "65536"), (code, "-1")],
    );
    refuse_rule(
        &format!("{rule}ports = [\"9-8\", \"x\", \"1-\"]"),
        &[(code, "\"9-8\""), (code, "\"x\""), (code, "\"1-\"")],
    );
    refuse_rule(&format!("{rule}ports = [80, \"70-90\"]"), &[(code, "\"70-90\"")]);
    refuse_rule(&format!("{rule}ports = []"), &[(code, "[]")]);
    refuse_rule(&format!("{rule}ports = [80, true]"), &[("netvm::value::type", "true")]);
}

#[test]
fn ports_without_tcp_or_udp_are_refused() {
    let code = "netvm::rule::ports_without_protocol";
    let rule = "[[allow]]\nfrom = \"a\"\nto = \"b\"\nports = [80]\n";
    refuse_rule(rule, &[(code, "[80]")]);
    refuse_rule(&format!("{rule}protocol = \"icmp\""), &[(code, "[80]")]);
}

#[test]
fn duplicate_allow_is_refused() {
    let rule = |more: &str| format!("[[allow]]\nfrom = \"a\"\nto = \"b\"\n{more}\n");
    let code = "netvm::rule::duplicate_allow";
    let tcp = rule("protocol = \"tcp\"\nports = [80, \"90-99\"]");
    refuse_rule(&(tcp.clone() + &tcp), &[(code, "[[allow]]")]);
    refuse_rule(&(tcp.clone() + &rule("")), &[(code, "[[allow]]")]);
    let overlapping = rule("protocol = \"tcp\"\nports = [95]");
    refuse_rule(&(tcp.clone() + &overlapping), &[(code, "[[allow]]")]);
    let other_port = rule("protocol = \"tcp\"\nports = [443]");
    refuse_rule(&(tcp.clone() + &other_port), &[]);
    refuse_rule(&(tcp + &rule("protocol = \"udp\"")), &[]);
}

#[test]
fn forward_is_checked() {
    let forward = |port: &str, to: &str| {
        format!("[[forward]]\nprotocol = \"udp\"\nport = {port}\nto = \"{to}\"\n")
    };
    refuse_rule(&forward("0", "b"), &[("netvm::rule::port", "0")]);
    refuse_rule(&(forward("53", "b") + "to_port = 70000"), &[("netvm::rule::port", "70000")]);
    refuse_rule(&forward("53", "a"), &[("netvm::rule::forward_to_dynamic", "\"a\"")]);
    refuse_rule(&forward("68", "b"), &[("netvm::rule::forward_of_dhcp", "68")]);
    let twice = forward("53", "b") + &forward("53", "b");
    refuse_rule(&twice, &[("netvm::rule::duplicate_forward", "[[forward]]")]);
    let other = forward("53", "b") + &forward("53", "b").replace("udp", "tcp");
    refuse_rule(&other, &[]);
}

#[test]
fn forward_to_spare_link_is_refused() {
    let body = format!(
        "spare_links = 1\n{TWO_GUESTS}[[forward]]\nprotocol = \"tcp\"\nport = 1\nto = \"spare-1\""
    );
    refuse(&body, &[("netvm::rule::forward_to_dynamic", "\"spare-1\"")]);
}

#[test]
fn wrong_address_is_not_taken_for_a_dynamic_one() {
    let body = "[[guest]]\nname = \"a\"\naddress = 5\n\
                [[forward]]\nprotocol = \"tcp\"\nport = 1\nto = \"a\"";
    refuse(body, &[("netvm::value::type", "5")]);
    refuse(
        &body.replace('5', "\"10.0.0.5\""),
        &[("netvm::guest::address_outside", "\"10.0.0.5\"")],
    );
}
