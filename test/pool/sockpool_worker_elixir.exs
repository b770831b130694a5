{:ok, _} = Application.ensure_all_started(:sockpool)
ExUnit.start()

defmodule Worker do
  use GenServer

  def start_link(arg), do: GenServer.start_link(__MODULE__, arg)
  def refuse(_arg), do: {:error, :not_today}
  def prepare(pid), do: GenServer.call(pid, :prepare)
  def fit?(pid), do: GenServer.call(pid, :fit?)

  @impl true
  def init(arg) do
    Process.flag(:trap_exit, true)
    if Keyword.keyword?(arg) and arg[:registry], do: {:ok, _} = Registry.register(arg[:registry], :workers, nil)
    {:ok, %{arg: arg, prepared: false, fit: true}}
  end

  @impl true
  def handle_call(:ping, _from, state), do: {:reply, :pong, state}
  def handle_call(:arg, _from, state), do: {:reply, state.arg, state}
  def handle_call(:prepare, _from, state), do: {:reply, :ok, %{state | prepared: true}}
  def handle_call(:prepared?, _from, state), do: {:reply, state.prepared, state}
  def handle_call(:fit?, _from, state), do: {:reply, state.fit, state}
  def handle_call(:spoil, _from, state), do: {:reply, :ok, %{state | fit: false}}

  @impl true
  def terminate(reason, %{arg: arg}) do
    if Keyword.keyword?(arg) and arg[:tell], do: send(arg[:tell], {:terminate, self(), reason})
  end
end

defmodule WorkersTest do
  use ExUnit.Case
  import ExUnit.CaptureLog

  # A supervisor with this pool, which ends with the test.
  defp supervised(options) do
    start = {Supervisor, :start_link, [[{:sockpool, options}], [strategy: :one_for_one]]}
    start_supervised!(%{id: make_ref(), start: start, type: :supervisor, restart: :temporary})
  end

  defp call(pool, request), do: :sockpool.transaction(pool, &GenServer.call(&1, request))

  # The pids of so many at once.
  defp workers(pool, count) do
    conns = for _ <- 1..count, do: elem({:ok, _} = :sockpool.checkout(pool), 1)
    pids = Enum.map(conns, &:sockpool.worker/1)
    Enum.each(conns, &:sockpool.checkin/1)
    pids
  end

  defp wait_until(condition) do
    unless condition.() do
      Process.sleep(5)
      wait_until(condition)
    end
  end

  # The pool's process is linked to this one, which then ends; what it says of that is logged.
  defp ended(supervisor, pid, how) do
    [{_, pool, _, _}] = Supervisor.which_children(supervisor)
    linked? = fn -> pid in elem(Process.info(pool, :links), 1) end
    wait_until(linked?)
    how.(pid)
    wait_until(fn -> not linked?.() end)
    _ = :sys.get_state(pool)
    Logger.flush()
  end

  test "keyword options, and a module with its argument" do
    supervised(name: :db, transport: :worker, worker: {Worker, :arg}, size: 10)
    assert :sockpool.transaction(:db, fn pid -> GenServer.call(pid, :ping) end) == :pong
    assert :sockpool.execute(:db, fn pid -> GenServer.call(pid, :arg) end) == {:ok, :arg}
    wait_until(fn -> match?({:ok, %{total: 10, idle: 10}}, :sockpool.stats(:db)) end)
  end

  test "the argument may be a keyword list" do
    supervised(name: :db, transport: :worker, worker: {Worker, host: "db1", port: 5432}, size: 1, max_overflow: nil)
    assert call(:db, :arg) == [host: "db1", port: 5432]
  end

  test "a function with its arguments, and a fun" do
    supervised(name: :mfa, transport: :worker, worker: {GenServer, :start_link, [Worker, :three]}, size: 1)
    supervised(name: :fun, transport: :worker, worker: fn -> Worker.start_link(:four) end, size: 1)
    supervised(name: :agents, transport: :worker, worker: {Agent, fn -> 41 end}, size: 1)
    assert call(:mfa, :arg) == :three
    assert call(:fun, :arg) == :four
    assert :sockpool.transaction(:agents, fn pid -> Agent.get(pid, &(&1 + 1)) end) == 42
  end

  test "a registry knows the workers" do
    {:ok, _} = Registry.start_link(keys: :duplicate, name: Workers)
    supervisor = supervised(name: :db, transport: :worker, worker: {Worker, registry: Workers}, size: 3, max_overflow: 0)
    pids = workers(:db, 3)
    assert Enum.sort(pids) == Enum.sort(for {pid, _} <- Registry.lookup(Workers, :workers), do: pid)
    Supervisor.stop(supervisor)
    wait_until(fn -> Registry.lookup(Workers, :workers) == [] end)
  end

  test "one that is stopped is replaced, and nobody logs it" do
    supervisor = supervised(name: :db, transport: :worker, worker: {Worker, :arg}, size: 1, max_overflow: 0)
    [pid] = workers(:db, 1)

    # What others have logged before may come late.
    refute capture_log(fn ->
             ended(supervisor, pid, &GenServer.stop/1)
             [other] = workers(:db, 1)
             assert other != pid
           end) =~ "of its workers ended"
  end

  test "one that is killed is replaced, and its pool says so" do
    supervisor = supervised(name: :db, transport: :worker, worker: {Worker, :arg}, size: 1, max_overflow: 0)
    [pid] = workers(:db, 1)

    assert capture_log(fn ->
             ended(supervisor, pid, &Process.exit(&1, :kill))
             [other] = workers(:db, 1)
             assert other != pid
             assert {:ok, %{last_error: {:worker, :killed}}} = :sockpool.stats(:db)
           end) =~ ~r/sockpool :?db: 1 of its workers ended: :?killed/
  end

  test "a fun that raises costs its worker" do
    supervised(name: :db, transport: :worker, worker: {Worker, :arg}, size: 1, max_overflow: 0)
    [pid] = workers(:db, 1)
    assert_raise RuntimeError, "mine", fn -> :sockpool.transaction(:db, fn _ -> raise "mine" end) end
    [other] = workers(:db, 1)
    assert other != pid
  end

  test "init and validate" do
    supervised(
      name: :db,
      transport: :worker,
      worker: {Worker, :arg},
      init: &Worker.prepare/1,
      validate: {Worker, :fit?, []},
      size: 1,
      max_overflow: 0
    )

    assert call(:db, :prepared?)
    [pid] = workers(:db, 1)
    :ok = call(:db, :spoil)
    [other] = workers(:db, 1)
    assert other != pid
  end

  test "a supervisor that stops ends the workers, and waits for them" do
    supervisor = supervised(name: :db, transport: :worker, worker: {Worker, tell: self()}, size: 3, max_overflow: 0)
    pids = workers(:db, 3)
    :ok = Supervisor.stop(supervisor)
    for pid <- pids, do: assert_received({:terminate, ^pid, :shutdown})
    assert Enum.filter(pids, &Process.alive?/1) == []
    assert :sockpool.execute(:db, & &1) == {:error, :not_found}
  end

  test "a pool that is killed comes back, and its workers are other ones" do
    supervisor = supervised(name: :db, transport: :worker, worker: {Worker, tell: self()}, size: 2, max_overflow: 0)
    pids = workers(:db, 2)
    [{_, pool, _, _}] = Supervisor.which_children(supervisor)
    capture_log(fn ->
      Process.exit(pool, :kill)
      for pid <- pids, do: assert_receive({:terminate, ^pid, _}, 5000)
    end)

    wait_until(fn -> match?({:ok, _}, :sockpool.execute(:db, & &1)) end)
    assert Enum.filter(workers(:db, 2), &(&1 in pids)) == []
  end

  test "what is wrong is said" do
    Process.flag(:trap_exit, true)

    for {wrong, key} <- [
          {[worker: Worker], :worker},
          {[worker: nil], :worker},
          {[worker: {"Worker", 1}], :worker},
          {[worker: {Worker, 1}, abandoned: :keep], :abandoned},
          {[worker: {Worker, 1}, worker_shutdown: -1], :worker_shutdown},
          {[worker: {Worker, 1}, validate: :never], :validate},
          {[worker: {Worker, 1}, host: "h"], :host},
          {[worker: {Worker, 1}, sizes: 3], :sizes}
        ] do
      options = [name: :db, transport: :worker] ++ wrong

      assert {:error, {:shutdown, {:failed_to_start_child, _, {:bad_option, ^key, _} = reason}}} =
               Supervisor.start_link([{:sockpool, options}], strategy: :one_for_one)

      assert IO.chardata_to_string(:sockpool.format_error(reason)) =~ "#{key}"
    end
  end

  test "a start that fails is told to who waits" do
    capture_log(fn ->
      supervised(name: :db, transport: :worker, worker: {Worker, :refuse, [1]}, size: 1, backoff: {1, 10})
      wait_until(fn -> :sockpool.execute(:db, & &1, 20) == {:error, {:unavailable, {:worker, :not_today}}} end)
    end)
  end
end
