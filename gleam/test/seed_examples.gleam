//// The examples of the document that the module's interface comes from, word for word, and before them
//// the functions and types that they suppose.

import distribute/connection_pool.{type Pool, type PoolError}
import gleam/int
import gleam/io
import gleam/list
import node_kit
import sockpool/connection.{Default}
import sockpool/error
import sockpool/term

pub type Request {
  Request(path: String)
}

pub type Response {
  Response(status: Int, body: String)
}

pub type Record {
  Record(key: Int, value: String)
}

pub fn send_via_connection(
  conn: connection_pool.Connection,
  data: String,
) -> Result(String, error.Error) {
  node_kit.greet(conn, data)
}

pub fn send_message(
  conn: connection_pool.Connection,
  text: String,
) -> Result(Nil, error.Error) {
  connection_pool.send(conn, "seed", text)
}

pub fn forward_request(
  conn: connection_pool.Connection,
  request: Request,
) -> Response {
  let assert Ok(body) = node_kit.greet(conn, request.path)
  Response(status: 200, body: body)
}

/// Records without a value make it crash.
pub fn serialize_and_send(
  conn: connection_pool.Connection,
  record: Record,
) -> Result(term.Term, error.Error) {
  let assert True = record.value != ""
  let arguments = [term.from(#(record.key, record.value))]
  connection_pool.call(conn, "erlang", "term_to_binary", arguments, Default)
}

pub fn retry_failed(
  _pool: connection_pool.Pool,
  _records: List(Record),
  failures: List(#(Int, PoolError)),
) -> Result(Nil, PoolError) {
  case failures {
    [#(2, error)] -> Error(error)
    _ -> Ok(Nil)
  }
}

// Creating a Connection Pool

pub fn setup_pool() -> Result(Pool, PoolError) {
  let target_node = "worker@node.example.com"
  let max_connections = 10
  
  case connection_pool.new(target_node, max_connections) {
    Ok(pool) -> {
      io.println("Pool created with 10 connections")
      Ok(pool)
    }
    Error(connection_pool.InvalidConfig) -> {
      io.println("Invalid pool configuration")
      Error(connection_pool.InvalidConfig)
    }
    Error(connection_pool.ConnectionFailed) -> {
      io.println("Failed to connect to target node")
      Error(connection_pool.ConnectionFailed)
    }
    Error(err) -> Error(err)
  }
}

// Using Connections

pub fn send_request(pool: connection_pool.Pool, data: String) {
  connection_pool.with_connection(pool, fn(conn) {
    // Use the connection
    let result = send_via_connection(conn, data)
    result
  })
}

// Batch Operations

pub fn send_many_messages(pool: connection_pool.Pool, messages: List(String)) {
  let send_fn = fn(conn, msg) {
    send_via_connection(conn, msg)
  }
  
  case connection_pool.send_batch(pool, messages, send_fn) {
    Ok(results) -> {
      io.println("Sent " <> int.to_string(list.length(results)) <> " messages")
      Ok(results)
    }
    Error(connection_pool.PoolExhausted) -> {
      io.println("Pool exhausted, try again later")
      Error(connection_pool.PoolExhausted)
    }
    Error(err) -> Error(err)
  }
}

// new

pub fn example_of_new() {
  let assert Ok(pool) = connection_pool.new("app@server.local", 5)
  pool
}

// with_connection

pub fn example_of_with_connection(pool: connection_pool.Pool) {
  connection_pool.with_connection(pool, fn(conn) {
    send_message(conn, "Hello")
  })
}

// Pattern 1: Request Handler with Pooled Connections

pub fn start_request_handler(target_node: String) {
  let assert Ok(pool) = connection_pool.new(target_node, 20)
  
  // Handler function for incoming requests
  fn(request: Request) -> Response {
    case connection_pool.with_connection(pool, fn(conn) {
      forward_request(conn, request)
    }) {
      Ok(response) -> response
      Error(connection_pool.PoolExhausted) -> {
        Response(status: 503, body: "Service busy")
      }
      Error(_) -> {
        Response(status: 500, body: "Connection error")
      }
    }
  }
}

// Pattern 2: Bulk Data Synchronization

pub fn sync_records(pool: connection_pool.Pool, records: List(Record)) {
  let send_fn = fn(conn, record) {
    serialize_and_send(conn, record)
  }
  
  case connection_pool.send_batch_parallel(pool, records, send_fn) {
    Ok(batch_result) -> {
      let success_count = list.length(batch_result.successful)
      let failure_count = list.length(batch_result.failed)
      
      io.println(
        "Synced " <> int.to_string(success_count) <> 
        " records, " <> int.to_string(failure_count) <> " failed"
      )
      
      // Retry failed records
      case batch_result.failed {
        [] -> Ok(Nil)
        failures -> retry_failed(pool, records, failures)
      }
    }
    Error(err) -> Error(err)
  }
}

// Pattern 3: Pool Health Monitoring

pub fn monitor_pool_health(pool: connection_pool.Pool) {
  case connection_pool.stats(pool) {
    Ok(stats) -> {
      let utilization = 
        int.to_float(stats.in_use_connections) /. 
        int.to_float(stats.total_connections)
      
      case utilization >. 0.8 {
        True -> {
          io.println("Warning: Pool utilization above 80%")
          // Consider scaling or alerting
        }
        False -> Nil
      }
      
      case stats.failed_operations > 100 {
        True -> {
          io.println("Warning: High failure rate")
          // Investigate connection issues
        }
        False -> Nil
      }
    }
    Error(connection_pool.InvalidPool) -> {
      io.println("Pool has been destroyed")
    }
    Error(_) -> {
      io.println("Failed to get pool stats")
    }
  }
}
