//! ApiVersions as bytes: what a client reads before it knows anything of the broker (KIP-35, KIP-511).

use crate::client::{Connection, Lone, sized, text};
use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiVersionsRequest;

/// The request by hand: API 18, number 7, client id `me`, and the body.
async fn ask(connection: &mut Connection, version: i16, body: &[u8]) -> Bytes {
    let mut request = [18_i16.to_be_bytes(), version.to_be_bytes()].concat();
    request.extend_from_slice(&[0, 0, 0, 7, 0, 2, b'm', b'e']);
    request.extend_from_slice(body);
    connection.send_bytes(&sized(&request)).await;
    let mut answer = connection.frame().await.expect("an answer");
    assert_eq!(answer.get_i32(), 7);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_versions_that_are_served_are_answered_in_their_own_form() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let mut plain = ask(&mut connection, 0, &[]).await;
    assert_eq!(plain.get_i16(), 0);
    let count = usize::try_from(plain.get_i32()).unwrap();
    let lines = plain.clone();
    assert_eq!(plain.len(), count * 6, "version 0 has the lines and nothing else");
    assert!(plain.chunks(6).any(|line| line == [0, 18, 0, 0, 0, 4]));

    for version in [1, 2] {
        let mut answer = ask(&mut connection, version, &[]).await;
        assert_eq!((answer.get_i16(), answer.get_i32()), (0, i32::try_from(count).unwrap()));
        assert_eq!(answer.split_to(count * 6), lines);
        assert_eq!(answer[..], [0; 4], "version {version} adds the throttle time");
    }
    // Versions 3 and 4: a flexible header and body to read, a header without tags to write, and no feature tags.
    for version in [3, 4] {
        let mut answer = ask(&mut connection, version, b"\0\x05test\x041.0\0").await;
        assert_eq!((answer.get_i16(), usize::from(answer.get_u8())), (0, count + 1), "version {version}");
        for line in lines.chunks(6) {
            assert_eq!((&answer.split_to(6)[..], answer.get_u8()), (line, 0));
        }
        assert_eq!(answer[..], [0; 5], "version {version} ends with the throttle time and no tag");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_not_served_is_told_which_are() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for version in [5, 99, i16::MAX, -1] {
        let answer = ask(&mut connection, version, b"\0\x05test\x041.0\0").await;
        let expected = [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
        assert_eq!(answer[..], expected, "version {version}: version 0, error 35, one line");
    }
    let answer = ask(&mut connection, 0, &[]).await;
    assert_eq!(answer[..2], [0, 0], "the connection goes on");
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_an_odd_name_is_told_so_and_not_cut_off() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for named in ["", "a client", "-client", "client_"] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(named))
            .with_client_software_version(text("1.0"));
        let answer = connection.ask(3, &request).await;
        assert_eq!((answer.error_code, answer.api_keys.len()), (42, 0), "{named:?}");
    }
    assert_eq!(connection.ask(0, &ApiVersionsRequest::default()).await.error_code, 0);
    lone.stop().await;
}
