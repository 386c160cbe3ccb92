//! Endpoints that outlive the runtime they were bound on.

use tokio::runtime::Runtime;
use zssp::ConnectError;

use crate::common::{endpoint, pair, run};

#[test]
fn an_endpoint_is_closed_when_its_runtime_is_gone() {
    let runtime = Runtime::new().unwrap();
    let (pair, idle) = runtime.block_on(async { (pair().await, endpoint().await) });
    let (address, key) = (pair.server.local_addr(), pair.server.public_key());
    let other = Runtime::new().unwrap();
    let accepting = other.spawn({
        let idle = idle.clone();
        async move { idle.accept().await.is_none() }
    });
    drop(runtime);
    run(async {
        assert!(accepting.await.unwrap());
        for endpoint in [&pair.client, &idle] {
            assert_eq!(endpoint.connect(address, key).await.err(), Some(ConnectError::EndpointClosed));
            assert!(endpoint.accept().await.is_none());
            endpoint.wait_idle().await;
        }
    });
}
