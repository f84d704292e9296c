//! The client's examples run as they stand.

use raftline_tests::cluster::Cluster;

use crate::PROGRAM;

#[path = "../../../client/examples/hello.rs"]
mod hello;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_example_says_hello() {
    let cluster = Cluster::start(PROGRAM, "examples", 1);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let address = cluster.addresses().remove(0);
    if let Err(error) = hello::hello(&address, "greetings").await {
        panic!("the example failed: {error}");
    }
}
