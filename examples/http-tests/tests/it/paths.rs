//! Spellings of paths.

use crate::HEADS;
use crate::rig::{Case, Via, agent, get, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_and_upstream_get_the_same_path() {
    let mut rows = Vec::new();
    for (name, spelled, normal) in [
        ("plain", "/a/b?c=d", "/a/b?c=d"),
        ("dot segments", "/a/./b/../../admin", "/admin"),
        ("dot segments above the root", "/../../admin", "/admin"),
        ("encoded letters", "/%61dm%69n", "/admin"),
        ("encoded dots", "/x/%2e%2E/admin", "/admin"),
        ("several slashes", "//admin///x", "/admin/x"),
        ("query stays", "/x?a=/../%61&b=//", "/x?a=/../%61&b=//"),
        ("empty query stays", "/x?", "/x?"),
    ] {
        let forwarded = |outcome: &crate::rig::Outcome, path: &str| {
            let line = format!("GET {path} HTTP/1.1");
            assert_eq!(outcome.status(200).received().head.first_line, line);
            assert_eq!(outcome.asked(0).uri, path);
        };
        rows.push(
            Case::new(name, get(spelled))
                .agents([agent(HEADS)])
                .clients(Via::ALL)
                .expect(move |outcome| forwarded(outcome, normal)),
        );
        rows.push(
            Case::new("as received", get(spelled))
                .agents([agent(HEADS)])
                .settings(|settings| settings.normalize_paths = false)
                .expect(move |outcome| forwarded(outcome, spelled)),
        );
    }
    run(rows).await;
}
