//// Runs every test. `gleam test` begins here.

@external(erlang, "sockpool_gleam_test_ffi", "run")
fn run(modules: List(String)) -> Nil

pub fn main() {
  run([
    "sockpool_pool_test", "sockpool_connection_test", "sockpool_options_test",
    "sockpool_tls_test", "sockpool_remote_test", "sockpool_error_test",
    "sockpool_worker_test", "sockpool_term_test", "connection_pool_test", "connection_pool_call_test",
    "connection_pool_batch_test", "connection_pool_seed_test",
    "sockpool_readme_test", "sockpool_redis_test",
  ])
}
