//! The examples do what they say.

#[cfg(feature = "tokio")]
#[path = "../../examples/conversation.rs"]
mod conversation;
#[path = "../../examples/ordered_download.rs"]
mod ordered_download;
#[path = "../../examples/pooled_buffers.rs"]
mod pooled_buffers;
#[path = "../../examples/request_reply.rs"]
mod request_reply;

fn text(out: &[u8]) -> &str {
    std::str::from_utf8(out).expect("text")
}

#[test]
fn request_reply() {
    let mut out = vec![];
    request_reply::run(&mut out).expect("no error");
    let expected = [(10, 55), (100, 5050), (1000, 500_500)];
    let expected = expected.map(|(count, sum)| format!("the sum of {count} numbers is {sum}\n"));
    assert_eq!(text(&out), expected.concat());
}

#[test]
fn ordered_download() {
    let mut out = vec![];
    ordered_download::run(&mut out).expect("no error");
    assert!(text(&out).starts_with("400000 bytes arrived in order"), "{}", text(&out));
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn conversation() {
    let mut out = vec![];
    conversation::run(&mut out).await.expect("no error");
    let lines: Vec<_> = text(&out).lines().collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4..], ["Alice: From which platform?", "  Bob: Platform 4."]);
}

#[test]
fn pooled_buffers() {
    let mut out = vec![];
    pooled_buffers::run(&mut out).expect("no error");
    assert!(text(&out).contains(" 0 allocations and "), "{}", text(&out));
}
