//! Says that it is ready for orders, and receives three.

use std::error::Error;

use slight::messaging::{MessagingError, Pub, Sub};

fn main() -> Result<(), Box<dyn Error>> {
    let orders = Sub::open("shop")?;
    let token = orders.subscribe("orders.new")?;
    let ready = Pub::open("shop")?;
    ready.publish(b"", "ready")?;

    let mut received = 0;
    while received < 3 {
        match orders.receive(&token) {
            Ok(order) => {
                println!("received: {}", String::from_utf8_lossy(&order));
                received += 1;
            }
            // Nothing came: whoever publishes may have begun to listen only now.
            Err(MessagingError::DeliveryFailed(_)) => ready.publish(b"", "ready")?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
