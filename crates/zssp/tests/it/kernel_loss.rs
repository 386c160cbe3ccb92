//! A road of the kernel's own that loses, delays and reorders.

use std::collections::HashSet;

use crate::common::road::{LEFT, RIGHT, Road, address};
use crate::common::simulation::transfer;
use crate::common::{builder, connect_to, content, run};

#[test]
fn everything_arrives_once_and_in_order() {
    const COUNT: u32 = 500;
    run(async {
        let Some(road) = Road::new() else { return };
        let [client, server] = [LEFT, RIGHT].map(|host| builder().bind_link(road.bind(host)).unwrap());
        let (here, there) = connect_to(address(RIGHT), &client, &server).await;
        for host in [LEFT, RIGHT] {
            let Some(()) = road.lose(host, 50) else { return };
            let Some(()) = road.reorder(host) else { return };
        }
        let sent = [1, 2].map(|seed| content(seed, 2 << 20));
        let there_and_back = async {
            let (there, back) = tokio::join!(
                transfer(here.clone(), there.clone(), sent[0].clone()),
                transfer(there.clone(), here.clone(), sent[1].clone()),
            );
            assert!([there, back] == sent, "every byte once and in order");
        };
        // Of datagrams, what is lost stays lost, and what is overtaken is seen to be.
        let datagrams = {
            let there = there.clone();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                while let Ok(datagram) = there.read_datagram().await {
                    numbers.push(u32::from_be_bytes(datagram[..4].try_into().unwrap()));
                }
                numbers
            })
        };
        let sending = async {
            let (ordered, unordered) = (here.channel(1).unwrap(), here.channel(2).unwrap());
            for number in 0..COUNT {
                ordered.send_ordered(number.to_be_bytes().to_vec()).await.unwrap();
                unordered.send(number.to_be_bytes().to_vec()).await.unwrap();
                here.send_datagram(number.to_be_bytes().repeat(250)).await.unwrap();
            }
        };
        let receiving = async {
            let (ordered, unordered) = (there.channel(1).unwrap(), there.channel(2).unwrap());
            let mut seen = HashSet::new();
            for number in 0..COUNT {
                assert_eq!(ordered.receive().await.unwrap().data()[..], number.to_be_bytes());
                assert!(seen.insert(unordered.receive().await.unwrap().into_data()), "received twice");
            }
        };
        tokio::join!(there_and_back, sending, receiving);
        for (host, end) in [(RIGHT, &here), (LEFT, &there)] {
            let (lost, stats) = (road.lost(host), end.stats());
            println!("{lost} lost on the way to the {host}, {stats:?}");
            assert!(lost > 5 && stats.messages_lost + stats.parts_lost > 0, "the road was too good");
        }
        here.close(0, b"").await;
        let numbers = datagrams.await.unwrap();
        let highest = numbers.iter().scan(0, |highest, &number| {
            *highest = number.max(*highest);
            Some(*highest)
        });
        let overtaken = highest.zip(&numbers).filter(|(highest, number)| *number < highest).count();
        println!("{} datagrams came, {overtaken} of them overtaken", numbers.len());
        assert!(overtaken > 0, "nothing was overtaken");
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len(), "received twice");
    });
}
