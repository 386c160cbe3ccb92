//! Byte streams between endpoints on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zssp::{Bytes, CloseReason, Connection, ReadError, ReadToEndError, WriteError};

use crate::common::{builder, content, pair, pair_of, run};

/// Sends everything back on each stream that the peer opens.
fn echo(connection: Connection) {
    tokio::spawn(async move {
        while let Ok((mut send, mut receive)) = connection.accept_stream().await {
            tokio::spawn(async move {
                tokio::io::copy(&mut receive, &mut send).await?;
                send.finish()?;
                Ok::<_, std::io::Error>(())
            });
        }
    });
}

#[test]
fn bytes_cross_in_order_and_come_back() {
    run(async {
        let pair = pair().await;
        echo(pair.there.clone());
        let sent = content(1, 20 << 20);
        let (mut send, mut receive) = pair.here.open_stream().await.unwrap();
        let writing = {
            let sent = sent.clone();
            tokio::spawn(async move {
                // Pieces of every size, most of them small.
                let mut rest = &sent[..];
                let mut size = 1;
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(size.min(rest.len()));
                    send.write_all(piece).await.unwrap();
                    (rest, size) = (after, size * 5 % 150_001);
                }
                send.finish().unwrap();
                send.stopped().await.unwrap();
                send.write_all(b"more").await.unwrap_err()
            })
        };
        assert!(receive.read_to_end(sent.len()).await.unwrap() == sent);
        assert!(receive.read_chunk().await.unwrap().is_none(), "the end stays the end");
        assert_eq!(writing.await.unwrap().kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(pair.here.close(0, b"").await, CloseReason::Local);
    });
}

#[test]
fn both_sides_open_many_streams_at_once() {
    run(async {
        let pair = pair().await;
        let mut tasks = Vec::new();
        for connection in [&pair.here, &pair.there] {
            echo(connection.clone());
            // More than may be open at a time: the rest wait for their turn.
            for number in 0..400 {
                let connection = connection.clone();
                tasks.push(tokio::spawn(async move {
                    let sent = content(number, 10 * number as usize);
                    let (mut send, mut receive) = connection.open_stream().await.unwrap();
                    send.write_chunk(sent.clone()).await.unwrap();
                    send.finish().unwrap();
                    assert!(receive.read_to_end(1 << 20).await.unwrap() == sent);
                    send.id()
                }));
            }
        }
        let mut ids = std::collections::HashSet::new();
        for task in tasks {
            assert!(ids.insert(task.await.unwrap()), "every stream has a number of its own");
        }
    });
}

#[test]
fn a_reset_is_told_with_its_code_and_discards_what_was_not_read() {
    run(async {
        let pair = pair().await;
        let (mut send, _) = pair.here.open_stream().await.unwrap();
        send.write_all(b"half a sentence").await.unwrap();
        let (_, mut receive) = pair.there.accept_stream().await.unwrap();
        assert_eq!(receive.read_chunk().await.unwrap().unwrap(), "half a sentence");
        send.reset(7).unwrap();
        assert_eq!(receive.read_chunk().await, Err(ReadError::Reset(7)));
        assert_eq!(send.stopped().await, Err(WriteError::Reset));
        assert_eq!(send.reset(8), Err(WriteError::Reset));
        assert_eq!(send.write_chunk("more").await, Err(WriteError::Reset));
        assert_eq!(send.finish(), Err(WriteError::Reset));
    });
}

#[test]
fn a_stop_is_told_with_its_code_also_to_a_writer_that_waits() {
    run(async {
        let pair = pair().await;
        let (mut send, _) = pair.here.open_stream().await.unwrap();
        let writing = tokio::spawn(async move {
            let piece = Bytes::from(vec![1; 100_000]);
            loop {
                if let Err(error) = send.write_chunk(piece.clone()).await {
                    return (error, send.stopped().await);
                }
            }
        });
        let (_, mut receive) = pair.there.accept_stream().await.unwrap();
        let mut buffer = [0; 10];
        receive.read_exact(&mut buffer).await.unwrap();
        receive.stop(9);
        assert_eq!(writing.await.unwrap(), (WriteError::Stopped(9), Err(WriteError::Stopped(9))));
        assert_eq!(receive.read_chunk().await, Err(ReadError::Stopped));
        // All room is given back: another stream can be filled.
        echo(pair.there.clone());
        let (mut send, mut receive) = pair.here.open_stream().await.unwrap();
        send.write_chunk(vec![2; 1 << 20]).await.unwrap();
        send.finish().unwrap();
        assert_eq!(receive.read_to_end(1 << 20).await.unwrap().len(), 1 << 20);
    });
}

#[test]
fn a_dropped_writer_ends_the_stream_and_a_dropped_reader_stops_it() {
    run(async {
        let pair = pair().await;
        let (mut send, receive) = pair.here.open_stream().await.unwrap();
        send.write_all(b"all there is").await.unwrap();
        drop((send, receive));
        let (mut send, mut receive) = pair.there.accept_stream().await.unwrap();
        assert_eq!(receive.read_to_end(100).await.unwrap(), b"all there is");
        assert_eq!(send.stopped().await, Err(WriteError::Stopped(0)));
        assert!(send.write_all(b"nobody reads this").await.is_err());
    });
}

#[test]
fn a_stream_that_the_peer_has_enough_of_can_still_be_finished() {
    run(async {
        let pair = pair().await;
        let (mut send, mut answers) = pair.here.open_stream().await.unwrap();
        send.write_all(b"the last question").await.unwrap();
        let (mut reply, mut receive) = pair.there.accept_stream().await.unwrap();
        receive.read_exact(&mut [0; 17]).await.unwrap();
        drop(receive);
        reply.write_all(b"the last answer").await.unwrap();
        assert_eq!(answers.read_chunk().await.unwrap().unwrap(), "the last answer");
        assert_eq!(send.stopped().await, Err(WriteError::Stopped(0)));
        assert_eq!(send.finish(), Ok(()));
        send.shutdown().await.unwrap();
        assert_eq!(send.write_chunk("more").await, Err(WriteError::Stopped(0)));
    });
}

#[test]
fn too_long_a_stream_is_not_gathered() {
    run(async {
        let pair = pair().await;
        let (mut send, _receive) = pair.here.open_stream().await.unwrap();
        send.write_all(&[0; 1001]).await.unwrap();
        send.finish().unwrap();
        let (_, mut receive) = pair.there.accept_stream().await.unwrap();
        assert_eq!(receive.read_to_end(1000).await, Err(ReadToEndError::TooLong(1000)));
    });
}

#[test]
fn the_end_of_the_connection_ends_its_streams() {
    run(async {
        let pair = pair().await;
        let (mut send, mut receive) = pair.here.open_stream().await.unwrap();
        send.write_all(b"taken").await.unwrap();
        let (_send, mut there) = pair.there.accept_stream().await.unwrap();
        assert_eq!(there.read_chunk().await.unwrap().unwrap(), "taken");
        let reading = tokio::spawn(async move { receive.read_chunk().await });
        drop(there);
        pair.there.close(3, b"enough").await;
        let closed = CloseReason::Peer { code: 3, reason: b"enough"[..].into() };
        assert_eq!(reading.await.unwrap(), Err(ReadError::ConnectionLost(closed.clone())));
        assert!(matches!(
            send.write_chunk("x").await,
            Err(WriteError::ConnectionLost(_) | WriteError::Stopped(0))
        ));
        assert_eq!(pair.here.open_stream().await.unwrap_err(), closed);
        assert_eq!(pair.here.accept_stream().await.unwrap_err(), closed);
    });
}

#[test]
fn more_is_under_way_where_the_receiver_allows_it() {
    run(async {
        const LARGE: usize = 12 << 20;
        let client = builder().send_buffer(LARGE).bind("127.0.0.1:0").await.unwrap();
        let server = builder().receive_buffer(LARGE).bind("127.0.0.1:0").await.unwrap();
        let pair = pair_of(client, server).await;
        let channel = pair.here.channel(0).unwrap();
        // None of it is received: with the usual 4 MiB this would wait for ever. The other half is left to others.
        let message = Bytes::from(vec![0; 58_000]);
        for _ in 0..LARGE / 2 / 61_000 {
            channel.send(message.clone()).await.unwrap();
        }
    });
}
