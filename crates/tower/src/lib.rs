//! A tower layer that asks agents about HTTP requests and WebSocket frames.

#[expect(unused_imports, reason = "the layer uses them")]
#[cfg_attr(not(test), expect(dead_code, reason = "the layer calls it"))]
mod websocket;
