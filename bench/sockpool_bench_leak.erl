%% @doc What stays behind: after many cycles and killed owners, and for each idle connection.
-module(sockpool_bench_leak).

-export([leak_test/0, memory/0]).

-define(POOL, sockpool_bench_leak).
-define(CONNECTIONS, 50).
-define(CYCLES, 100000).
-define(KILLS, 5000).
-define(AT_ONCE, 200).
-define(MESSAGE, <<"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef">>).

%% @doc Requests, then owners killed at random moments of all kinds of use; afterwards every
%% connection, descriptor and process must be accounted for.
-spec leak_test() -> [sockpool_bench_report:check()].
leak_test() ->
    Server = start(?CONNECTIONS),
    Errors = cycles(),
    Before = resources(),
    Strayed = kill_owners(?KILLS),
    Settled = settled(Before),
    After = resources(),
    {ok, Stats} = sockpool:stats(?POOL),
    stop(Server),
    #{total := Total, idle := Idle, leased := Leased, connecting := Connecting,
      waiting := Waiting} = Stats,
    Text = fun(Format, Args) -> iolist_to_binary(io_lib:format(Format, Args)) end,
    [check(Text("errors in ~b requests~s", [?CYCLES, kinds(Errors)]), length(Errors),
           Errors =:= []),
     check(Text("of ~b owners to be killed, those that had failed before", [?KILLS]), Strayed,
           Strayed =:= 0),
     check(<<"the pool came to rest within 10 s">>, Settled, Settled),
     check(Text("idle + leased + connecting, of ~b connections in all", [Total]),
           Idle + Leased + Connecting, Idle + Leased + Connecting =:= Total),
     check(<<"idle connections">>, Idle, Idle =:= ?CONNECTIONS),
     check(<<"leased connections">>, Leased, Leased =:= 0),
     check(<<"waiting processes">>, Waiting, Waiting =:= 0)
     | same(Before, After)].

check(Text, Value, Ok) ->
    #{run => leak_test, text => Text, value => Value, ok => Ok}.

same(Before, After) ->
    [check(iolist_to_binary([atom_to_list(Key), " gained"]), maps:get(Key, After) - Value,
           maps:get(Key, After) =:= Value)
     || {Key, Value} <- maps:to_list(Before)].

start(Size) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Server = #{port := Port} = sockpool_bench_server:start(tcp),
    ok = sockpool:start_pool(?POOL, #{host => {127, 0, 0, 1}, port => Port,
                                           size => Size, max_overflow => 0}),
    ok = sockpool_bench_wait:until(fun() -> is_idle(Size) end),
    Server.

stop(Server) ->
    ok = sockpool:stop_pool(?POOL),
    ok = sockpool_bench_server:stop(Server).

is_idle(Size) ->
    {ok, Stats} = sockpool:stats(?POOL),
    maps:with([total, idle, leased, connecting, waiting], Stats) =:=
        #{total => Size, idle => Size, leased => 0, connecting => 0, waiting => 0}.

%% Closing goes on for a moment after the counters have come to rest.
settled(Before) ->
    try sockpool_bench_wait:until(fun() -> is_idle(?CONNECTIONS) andalso resources() =:= Before end)
    of
        ok -> true
    catch
        error:condition_never_held -> false
    end.

resources() ->
    #{descriptors => descriptors(), processes => erlang:system_info(process_count),
      ports => erlang:system_info(port_count)}.

%% Of this OS process, on Linux and macOS; the listing's own descriptor is in every count.
descriptors() ->
    {ok, Names} = file:list_dir("/dev/fd"),
    length(Names).

cycles() ->
    Each = ?CYCLES div ?AT_ONCE,
    Monitors = [element(2, spawn_monitor(fun() -> exit({errors, cycle(Each, [])}) end))
                || _ <- lists:seq(1, ?AT_ONCE)],
    lists:append([receive
                      {'DOWN', Monitor, process, _, {errors, Errors}} -> Errors
                  end || Monitor <- Monitors]).

cycle(0, Errors) ->
    Errors;
cycle(Left, Errors) ->
    case sockpool:request(?POOL, ?MESSAGE, byte_size(?MESSAGE), 5000) of
        {ok, ?MESSAGE} -> cycle(Left - 1, Errors);
        {ok, _} -> cycle(Left - 1, [wrong_reply | Errors]);
        {error, Reason} -> cycle(Left - 1, [Reason | Errors])
    end.

kinds([]) -> "";
kinds(Errors) -> io_lib:format(": ~0p", [lists:usort(Errors)]).

%% Killing

%% Returns how many did not live until they were killed: each of them met an error.
kill_owners(0) ->
    0;
kill_owners(Left) ->
    Owners = [spawn_monitor(fun use_for_ever/0) || _ <- lists:seq(1, min(Left, ?AT_ONCE))],
    lists:foreach(fun kill/1, Owners),
    Ends = [receive {'DOWN', Monitor, process, _, Reason} -> Reason end
            || {_, Monitor} <- Owners],
    length([Reason || Reason <- Ends, Reason =/= killed]) + kill_owners(Left - length(Owners)).

%% Four times as many owners as connections: most wait, the others hold, send or receive.
kill({Pid, _}) ->
    rand:uniform(4) =:= 1 andalso timer:sleep(1),
    exit(Pid, kill).

use_for_ever() ->
    _ = use(rand:uniform(4)),
    use_for_ever().

%% A request; a hold that was never used; a reply left unread; a receive that nothing comes for.
use(1) ->
    {ok, ?MESSAGE} = sockpool:request(?POOL, ?MESSAGE, byte_size(?MESSAGE), infinity);
use(2) ->
    {ok, Conn} = sockpool:checkout(?POOL, infinity),
    timer:sleep(rand:uniform(3)),
    ok = sockpool:checkin(Conn);
use(3) ->
    {ok, Conn} = sockpool:checkout(?POOL, infinity),
    ok = sockpool:send(Conn, ?MESSAGE),
    timer:sleep(rand:uniform(3)),
    sockpool:discard(Conn);
use(4) ->
    {ok, Conn} = sockpool:checkout(?POOL, infinity),
    {error, timeout} = sockpool:recv(Conn, 1, rand:uniform(5)),
    sockpool:discard(Conn).

%% Memory

-define(FEW, 10).
-define(MANY, 1000).
-define(FLOOR_BYTES, 1024).
%% A connection that is idle for over a second is watched for its server's close, at a price.
-define(IDLE_MS, 2000).
-define(MEMORY_ROUNDS, 3).

%% @doc What one idle connection costs: the memory of the VM (what NIFs allocate through it,
%% binaries and living processes included) with a pool of 1000 less that with a pool of 10. A first
%% pool of 1000 makes the VM's own tables grow beforehand.
-spec memory() -> [sockpool_bench_report:check()].
memory() ->
    _ = with_pool(?MANY),
    Costs = [cost() || _ <- lists:seq(1, ?MEMORY_ROUNDS)],
    Vm = sockpool_bench_rounds:median([Cost || {Cost, _} <- Costs]),
    [#{run => memory, value => Vm, ok => Vm =< ?FLOOR_BYTES,
       text => <<"bytes per idle TCP connection in the VM's allocators (at most 1024)">>}
     | os_check([Cost || {_, Cost} <- Costs, is_float(Cost)])].

%% The kernel counts pages, so this one is coarse; it would show memory that the VM cannot see.
os_check([]) ->
    [];
os_check(Costs) ->
    [#{run => memory, value => sockpool_bench_rounds:median(Costs), ok => true,
       text => <<"bytes per idle TCP connection as the kernel sees the process (for information)">>}].

cost() ->
    {FewVm, FewOs} = with_pool(?FEW),
    {ManyVm, ManyOs} = with_pool(?MANY),
    {per_connection(FewVm, ManyVm), per_connection(FewOs, ManyOs)}.

per_connection(unknown, unknown) -> unknown;
per_connection(Few, Many) -> (Many - Few) / (?MANY - ?FEW).

with_pool(Size) ->
    Server = start(Size),
    timer:sleep(?IDLE_MS),
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    Memory = {sockpool_bench_memory:vm_bytes(), sockpool_bench_memory:resident_bytes()},
    stop(Server),
    Memory.
