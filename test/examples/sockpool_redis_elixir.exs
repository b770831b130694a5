# examples/redis/redis.exs; the environment says where its server is.
{:ok, _} = Application.ensure_all_started(:sockpool)
[path] = System.argv()
Code.require_file(path)
ExUnit.start()

defmodule RedisTest do
  use ExUnit.Case

  defp started(name, opts) do
    port = String.to_integer(System.fetch_env!("REDIS_PORT"))
    password = fn -> System.fetch_env!("REDIS_PASSWORD") end
    :ok = :sockpool.start_pool(name, Redis.options([host: "127.0.0.1", port: port, password: password] ++ opts))
    on_exit(fn -> :sockpool.stop_pool(name) end)
    name
  end

  test "kinds of values" do
    pool = started(:kinds, size: 1)

    for {kind, value} <- [
          string: "Hello World",
          integer: 12345,
          double: 3.141,
          null: nil,
          array: [0, 1, 2],
          set: [0, 1, 2],
          map: %{0 => false, 1 => true, 2 => false},
          attrib: "Some real reply following the attribute",
          verbatim: "This is a verbatim\nstring",
          bignum: 1_234_567_999_999_999_999_999_999_999_999_999_999,
          true: true,
          false: false
        ] do
      assert Redis.q(pool, ["DEBUG", "PROTOCOL", kind]) == {:ok, value}
    end

    # From Redis 7.2 on what is pushed comes after the reply.
    {:ok, first} = Redis.q(pool, ["DEBUG", "PROTOCOL", "push"])
    assert first in [{:push, ["server-cpu-usage", 42]}, "Some real reply following the push reply"]

    assert Redis.q(pool, ["KEYS", "none"]) == {:ok, []}
    assert {:error, "ERR unknown command" <> _} = Redis.q(pool, ["NO_SUCH_COMMAND"])
  end

  test "a thousand processes" do
    pool = started(:many, size: 16, max_overflow: 0, checkout_timeout: 60_000)

    1..1000
    |> Enum.map(fn n ->
      Task.async(fn ->
        assert Redis.q(pool, ["SET", "elixir#{n}", n], 60_000) == {:ok, "OK"}
        assert Redis.q(pool, ["GET", "elixir#{n}"], 60_000) == {:ok, "#{n}"}
        assert Redis.multi(pool, [["INCR", "elixir"], ["ECHO", n]]) |> elem(1) |> Enum.at(1) == "#{n}"
      end)
    end)
    |> Task.await_many(60_000)

    assert Redis.q(pool, ["GET", "elixir"]) == {:ok, "1000"}
    assert {:ok, %{idle: 16, closed: 0}} = :sockpool.stats(pool)
  end

  test "database, and errors" do
    pool = started(:database, size: 1, database: 5)
    assert {:ok, [_, {:error, "WRONGTYPE" <> _}]} = Redis.multi(pool, [["SET", "text", "a"], ["LPUSH", "text", 1]])
    assert {:error, "EXECABORT" <> _} = Redis.multi(pool, [["GET"]])
    assert {:ok, "# Keyspace" <> rest} = Redis.q(pool, ["INFO", "keyspace"])
    assert rest =~ "db5:keys=1"
  end

  test "a subscriber gives its connection back as it was" do
    pool = started(:news, size: 1, max_overflow: 1)
    test = self()

    handler = fn
      {:subscribed, _}, heard -> send(test, :ready) && {:more, heard}
      {:message, "news", "last"}, heard -> {:stop, Enum.reverse(heard)}
      {:message, "news", text}, heard -> {:more, [text | heard]}
    end

    task = Task.async(fn -> Redis.subscribe(pool, ["news", "weather"], handler, []) end)
    for _ <- 1..2, do: assert_receive(:ready, 5000)
    for n <- 1..3, do: {:ok, 1} = Redis.q(pool, ["PUBLISH", "news", n])
    {:ok, 1} = Redis.q(pool, ["PUBLISH", "news", "last"])
    assert Task.await(task) == {:ok, ["1", "2", "3"]}
    assert {:ok, %{total: 2, idle: 2, closed: 0}} = :sockpool.stats(pool)
    for n <- 1..4, do: assert(Redis.q(pool, ["ECHO", n]) == {:ok, "#{n}"})
  end
end
