//! The sample API of the demo: orders in memory. It knows nothing of tokens, scopes or limits; the proxy names the
//! caller in `X-Consumer-Id`.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::server::{MAX_BODY, json_answer};

/// Maximum number of orders; the oldest are dropped first.
const MOST_ORDERS: usize = 1000;

/// The API and its orders.
pub(super) struct OrdersApi {
    orders: RefCell<Orders>,
}

struct Orders {
    kept: Vec<Order>,
    next: u32,
}

struct Order {
    id: String,
    item: Value,
    quantity: Value,
    placed_by: String,
    status: &'static str,
}

impl OrdersApi {
    /// With two orders to begin with.
    pub(super) fn new() -> Self {
        let mut orders = Orders { kept: Vec::new(), next: 1001 };
        orders.place("shop", &json!({"item": "lantern", "quantity": 2}));
        orders.place("warehouse", &json!({"item": "rope, 30 m", "quantity": 1}));
        Self { orders: RefCell::new(orders) }
    }

    /// Answers one request.
    pub(super) async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return json_answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "the body cannot be read"}));
        };
        let caller = head.headers.get("x-consumer-id").and_then(|name| name.to_str().ok()).unwrap_or("nobody");
        let (status, body) = self.orders.borrow_mut().answer(&head.method, head.uri.path(), caller, &body.to_bytes());
        let mut answer = json_answer(status, &body);
        if let (StatusCode::CREATED, Some(id)) = (status, body["id"].as_str())
            && let Ok(location) = HeaderValue::try_from(format!("/v1/orders/{id}"))
        {
            answer.headers_mut().insert(LOCATION, location);
        }
        answer
    }
}

impl Orders {
    fn answer(&mut self, method: &Method, path: &str, caller: &str, body: &[u8]) -> (StatusCode, Value) {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, segments.as_slice()) {
            (&Method::GET, ["healthz"]) => (StatusCode::OK, json!({"status": "ok"})),
            (&Method::GET, ["v1", "orders"]) => {
                (StatusCode::OK, json!({"orders": self.kept.iter().map(Order::json).collect::<Vec<_>>()}))
            }
            (&Method::POST, ["v1", "orders"]) => match serde_json::from_slice::<Value>(body) {
                Ok(new) => (StatusCode::CREATED, self.place(caller, &new)),
                Err(_) => (StatusCode::BAD_REQUEST, json!({"error": "not JSON"})),
            },
            (&Method::GET, ["v1", "orders", id]) => match self.find(id) {
                Some(order) => (StatusCode::OK, order.json()),
                None => unknown_order(),
            },
            (&Method::POST, ["v1", "orders", id, "refund"]) => match self.find(id) {
                Some(order) => {
                    order.status = "refunded";
                    (StatusCode::OK, order.json())
                }
                None => unknown_order(),
            },
            _ => (StatusCode::NOT_FOUND, json!({"error": "no such resource"})),
        }
    }

    fn place(&mut self, caller: &str, new: &Value) -> Value {
        let order = Order {
            id: format!("o-{}", self.next),
            item: new["item"].clone(),
            quantity: new["quantity"].clone(),
            placed_by: caller.to_owned(),
            status: "placed",
        };
        self.next += 1;
        let json = order.json();
        if self.kept.len() >= MOST_ORDERS {
            self.kept.remove(0);
        }
        self.kept.push(order);
        json
    }

    fn find(&mut self, id: &str) -> Option<&mut Order> {
        self.kept.iter_mut().find(|order| order.id == id)
    }
}

impl Order {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "item": self.item,
            "quantity": self.quantity,
            "placed_by": self.placed_by,
            "status": self.status,
        })
    }
}

fn unknown_order() -> (StatusCode, Value) {
    (StatusCode::NOT_FOUND, json!({"error": "no such order"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_placed_listed_and_refunded() {
        let api = OrdersApi::new();
        let mut orders = api.orders.borrow_mut();
        let mut ask = |method: Method, path: &str, body: &str| {
            let (status, body) = orders.answer(&method, path, "shop", body.as_bytes());
            (status.as_u16(), body)
        };
        let (status, placed) = ask(Method::POST, "/v1/orders", r#"{"item":"map","quantity":3}"#);
        assert_eq!((status, &placed["id"], &placed["placed_by"]), (201, &json!("o-1003"), &json!("shop")));
        let (status, list) = ask(Method::GET, "/v1/orders", "");
        assert_eq!((status, &list["orders"][2]), (200, &placed));
        assert_eq!(ask(Method::GET, "/v1/orders/o-1003", ""), (200, placed));
        assert_eq!(ask(Method::POST, "/v1/orders/o-1003/refund", "").1["status"], "refunded");
        for (method, path, body, expected) in [
            (Method::GET, "/healthz", "", 200),
            (Method::GET, "/v1/orders/o-1", "", 404),
            (Method::POST, "/v1/orders/o-1/refund", "", 404),
            (Method::POST, "/v1/orders", "{", 400),
            (Method::DELETE, "/v1/orders", "", 404),
        ] {
            assert_eq!(ask(method, path, body).0, expected, "{path}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut orders = Orders { kept: Vec::new(), next: 1 };
        for _ in 0..MOST_ORDERS + 5 {
            orders.place("shop", &json!({}));
        }
        assert_eq!((orders.kept.len(), orders.kept[0].id.as_str()), (MOST_ORDERS, "o-6"));
    }
}
