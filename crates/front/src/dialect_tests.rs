//! Pages as php-fpm writes them, and what strangers put into them.

use super::*;

fn report() -> Report<'static> {
    let process = Process {
        pid: 7,
        is_busy: true,
        since: 1_795_903_265,
        requests: 3,
        took: Duration::from_micros(62),
        method: "GET".to_owned(),
        uri: "/a?<b>=\"\\&'".to_owned(),
        length: 5,
        user: "-".to_owned(),
        script: "-".to_owned(),
    };
    let idle = Process { pid: 8, is_busy: false, ..process.clone() };
    Report {
        pool: "www",
        manager: Manager::Dynamic,
        since: 1_795_903_265,
        now: 1_795_903_290,
        accepted: 4,
        waiting: 1,
        waiting_max: 2,
        queue_length: 16,
        busy_max: 3,
        full: 5,
        slow: 6,
        processes: vec![process, idle],
    }
}

fn told(query: &str) -> String {
    String::from_utf8(page(&report(), query.as_bytes()).body.to_vec()).expect("text")
}

#[test]
fn the_text_is_that_of_php_fpm_to_the_space() {
    let expected = "pool:                 www
process manager:      dynamic
start time:           28/Nov/2026:22:01:05 +0000
start since:          25
accepted conn:        4
listen queue:         1
max listen queue:     2
listen queue len:     16
idle processes:       1
active processes:     1
total processes:      2
max active processes: 3
max children reached: 5
slow requests:        6
";
    assert_eq!(told(""), expected);
    assert!(told("full").starts_with(&format!("{expected}\n************************\npid:                  7\n")));
    assert!(told("full").contains("request URI:          /a?<b>=\"\\&'\n"));
}

#[test]
fn what_strangers_write_ends_neither_a_string_nor_an_element() {
    assert!(told("full&json").contains(r#""request uri":"/a?<b>=\"\\&'","content length":5"#));
    for query in ["full&xml", "full&html"] {
        assert!(told(query).contains("/a?&lt;b&gt;=&quot;\\&amp;&#39;"), "{query}");
    }
}

#[test]
fn a_query_is_looked_at_as_php_fpm_does() {
    let type_of = |query: &str| page(&report(), query.as_bytes()).headers[3].1.clone();
    assert!(type_of("").starts_with("text/plain") && type_of("JSON").starts_with("text/plain"));
    assert!(type_of("json&xml").starts_with("text/xml") && type_of("json&xml&html").starts_with("text/html"));
    assert!(type_of("a=json").starts_with("text/plain") && type_of("jsonfull").starts_with("text/plain"));
    assert!(type_of("&&=&json=0").starts_with("application/json") && type_of("x&json").starts_with("text/xml"));
    assert!(told("fu&js").contains("processes\":["));
    assert!(told("openmetrics&full").ends_with("phpfpm_slow_requests 6\n# EOF\n"));
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, date) in [
        (0, "01/Jan/1970:00:00:00 +0000"),
        (951_782_399, "28/Feb/2000:23:59:59 +0000"),
        (951_782_400, "29/Feb/2000:00:00:00 +0000"),
        (951_868_800, "01/Mar/2000:00:00:00 +0000"),
        (4_107_542_400, "01/Mar/2100:00:00:00 +0000"),
        (1_798_761_599, "31/Dec/2026:23:59:59 +0000"),
    ] {
        assert_eq!(Date(seconds).to_string(), date);
    }
}
