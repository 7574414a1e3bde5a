//! Streams and listeners.

use super::*;
use crate::net::stack::{TcpListener, TcpStream};

async fn both(client: &Host, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let stream = client.connect(server(listener.port()), SOON).await.unwrap();
    (stream, listener.accept().await.unwrap())
}

async fn read_all(stream: &TcpStream) -> Result<Vec<u8>, NetError> {
    let mut all = Vec::new();
    let mut part = [0; 700];
    loop {
        match stream.read(&mut part).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&part[..count]),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn bytes_arrive_in_order_and_both_sides_see_the_end() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        assert_eq!(there.peer().ip(), IpAddr::from([10, 0, 0, 1]));
        let sent = pattern(100_000);
        let expected = sent.clone();
        let writer = spawn(async move {
            here.write_all(&sent).await.unwrap();
            here.finish().await;
            here
        });
        assert_eq!(read_all(&there).await.unwrap(), expected);
        let here = writer.await;
        there.finish().await;
        assert!(read_all(&here).await.unwrap().is_empty());
    });
}

#[test]
fn one_direction_ends_before_the_other() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        here.write_all(b"question").await.unwrap();
        here.finish().await;
        assert_eq!(here.write(b"more").await, Err(NetError::Finished));
        assert_eq!(read_all(&there).await.unwrap(), b"question");
        let answer = pattern(20_000);
        let expected = answer.clone();
        let writer = spawn(async move {
            there.write_all(&answer).await.unwrap();
            there.finish().await;
        });
        assert_eq!(read_all(&here).await.unwrap(), expected);
        writer.await;
    });
}

#[test]
fn a_reader_and_a_writer_share_a_stream() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        let echo = spawn(async move {
            let mut part = [0; 512];
            loop {
                match there.read(&mut part).await.unwrap() {
                    0 => break,
                    count => there.write_all(&part[..count]).await.unwrap(),
                }
            }
            there.finish().await;
        });
        let here = Arc::new(here);
        let writing = here.clone();
        let writer = spawn(async move {
            writing.write_all(&pattern(50_000)).await.unwrap();
            writing.finish().await;
        });
        assert_eq!(read_all(&here).await.unwrap(), pattern(50_000));
        writer.await;
        echo.await;
    });
}

#[test]
fn a_writer_waits_for_a_reader_that_takes_its_time() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        let sent = pattern(SIZES.send + SIZES.receive + 1);
        let writing = here.write_all(&sent);
        assert!(timeout(Duration::from_millis(300), writing).await.is_err(), "more than both buffers was taken");
        let mut part = [0; 4096];
        let mut count = 0;
        while count < SIZES.send + SIZES.receive {
            let length = there.read(&mut part).await.unwrap();
            assert_eq!(part[..length], sent[count..count + length]);
            count += length;
        }
    });
}

#[test]
fn a_stream_that_is_dropped_resets_the_connection() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        drop(here);
        assert_eq!(there.read(&mut [0; 10]).await, Err(NetError::Reset));
        assert_eq!(there.write(b"x").await, Err(NetError::Reset));
    });
}

#[test]
fn an_abort_wakes_the_reader_and_the_peer() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let (here, there) = both(&client, &listener).await;
        let here = Arc::new(here);
        let reading = here.clone();
        let reader = spawn(async move { reading.read(&mut [0; 10]).await });
        sleep(Duration::from_millis(20)).await;
        here.abort();
        assert_eq!(reader.await, Err(NetError::Reset));
        assert_eq!(there.read(&mut [0; 10]).await, Err(NetError::Reset));
    });
}

#[test]
fn a_burst_of_connections_is_accepted() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let clients: Vec<_> = (0..100)
            .map(|number: u8| {
                let stack = client.stack.clone();
                spawn(async move {
                    let stream = stack.connect(server(80), SOON).await?;
                    stream.write_all(&[number]).await?;
                    let mut answer = [0];
                    stream.read(&mut answer).await?;
                    Ok::<u8, NetError>(answer[0])
                })
            })
            .collect();
        for _ in 0..100 {
            let stream = listener.accept().await.unwrap();
            spawn(async move {
                let mut number = [0];
                stream.read(&mut number).await.unwrap();
                stream.write_all(&number).await.unwrap();
                stream.finish().await;
            })
            .detach();
        }
        for (number, client) in (0..100).zip(clients) {
            assert_eq!(client.await, Ok(number));
        }
    });
}

#[test]
fn connections_past_the_limit_wait_until_one_ends() {
    let sizes = Sizes { connections: 4, ..SIZES };
    let (one, end) = Cable::new();
    let client = host(one, &fixed("10.0.0.1/24"), SIZES);
    let other = host(end, &fixed("10.0.0.2/24"), sizes);
    run(async {
        let listener = other.listen(80).unwrap();
        let mut accepted = Vec::new();
        for _ in 0..4 {
            accepted.push(both(&client, &listener).await);
        }
        let late = client.connect(server(80), Duration::from_millis(500)).await;
        assert!(matches!(late, Err(NetError::TimedOut)), "there is room for four");
        assert!(matches!(other.connect(server(9), SOON).await, Err(NetError::TooMany(4))));
        accepted.pop();
        both(&client, &listener).await;
    });
}

#[test]
fn sockets_are_given_back() {
    let sizes = Sizes { connections: 4, ..SIZES };
    let (one, end) = Cable::new();
    let client = host(one, &fixed("10.0.0.1/24"), sizes);
    let other = host(end, &fixed("10.0.0.2/24"), sizes);
    run(async {
        let listener = other.listen(80).unwrap();
        for round in 0..12 {
            let (here, there) = both(&client, &listener).await;
            match round % 3 {
                0 => drop(here),
                1 => there.abort(),
                _ => {
                    there.finish().await;
                    here.finish().await;
                }
            }
            drop(there);
            sleep(Duration::from_millis(250)).await;
        }
    });
}

#[test]
fn nobody_listens() {
    let (client, other) = pair();
    run(async {
        let refused = client.connect(server(81), SOON).await;
        assert!(matches!(refused, Err(NetError::Refused)));
        let listener = other.listen(81).unwrap();
        assert!(matches!(other.listen(81), Err(NetError::PortInUse(81))));
        drop(listener);
        assert!(matches!(client.connect(server(81), SOON).await, Err(NetError::Refused)));
        assert!(other.listen(81).is_ok());
    });
}

#[test]
fn any_port_is_one_that_is_free() {
    let (client, other) = pair();
    run(async {
        let listeners = [other.listen(0).unwrap(), other.listen(0).unwrap()];
        assert_ne!(listeners[0].port(), listeners[1].port());
        both(&client, &listeners[1]).await;
    });
}

#[test]
fn connections_that_nobody_accepted_end_with_their_listener() {
    let (client, other) = pair();
    run(async {
        let listener = other.listen(80).unwrap();
        let stream = client.connect(server(80), SOON).await.unwrap();
        drop(listener);
        assert_eq!(stream.read(&mut [0; 10]).await, Err(NetError::Reset));
    });
}

#[test]
fn nobody_answers() {
    let (client, other) = pair();
    drop(other);
    run(async {
        let silent = client.connect(server(80), Duration::from_millis(200)).await;
        assert!(matches!(silent, Err(NetError::TimedOut)));
        let far = SocketAddr::new(IpAddr::from([8, 8, 8, 8]), 80);
        assert!(matches!(client.connect(far, SOON).await, Err(NetError::Unreachable)));
    });
}
