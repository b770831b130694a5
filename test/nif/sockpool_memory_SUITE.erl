%%% Memory is short in the VM's part: each allocation of the library that may fail is made to fail in turn. Nobody
%%% crashes, who is told is told `enomem', and the same pool, or its next start, works afterwards.
-module(sockpool_memory_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([raw_pool/1, tls_pool/1, worker_pool/1]).
%% Run in the other VM.
-export([every_failure/2, is_fit/1]).

-define(WRAPPED, ["malloc", "calloc", "realloc", "strdup", "posix_memalign", "enif_alloc", "enif_alloc_binary",
                  "enif_realloc_binary", "enif_mutex_create"]).
-define(PATIENCE_MS, 240000).
%% More than the exercise has.
-define(MOST, 200).

suite() -> [{timetrap, {minutes, 10}}].

all() -> [raw_pool, tls_pool, worker_pool].

init_per_suite(Config) ->
    Root = sockpool_test_util:root(),
    Dir = filename:join(?config(priv_dir, Config), "short/sockpool"),
    Control = filename:join(Dir, "control"),
    ok = filelib:ensure_path(filename:join(Dir, "priv")),
    Wraps = [",--wrap=" ++ Name || Name <- ?WRAPPED],
    Library = filename:join(Dir, "priv/sockpool_nif.so"),
    Object = filename:join(Dir, "fail_alloc.o"),
    Include = filename:join(code:root_dir(), "usr/include"),
    [] = os:cmd(lists:flatten(
                  ["cd ", Root, " && cc -std=c11 -D_GNU_SOURCE -O1 -fPIC -Wall -Wextra -Werror -isystem ", Include,
                   " -c -o ", Object, " test/nif/fail_alloc.c 2>&1 && make -s -C c_src TARGET=", Library,
                   " LDFLAGS='-Wl", Wraps, " ", Object, "' ", Library, " 2>&1 && cp -r ",
                   filename:dirname(code:which(sockpool)), " ", Dir, "/ebin"])),
    [{short, Dir}, {control, Control} | sockpool_tls_kit:start(Config)].

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

raw_pool(Config) ->
    Target = sockpool_test_server:target(sockpool_test_server:start()),
    fails(Config, Target).

tls_pool(Config) ->
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server")),
    fails(Config, #{host => "127.0.0.1", port => sockpool_tls_peers:port(Server), transport => tls,
                    tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca"), server_name => "localhost"}}).

worker_pool(Config) ->
    fails(Config, #{transport => worker, worker => {sockpool_test_worker, #{}}, validate => fun ?MODULE:is_fit/1,
                    abandoned => reuse}).

fails(Config, Target) ->
    Control = ?config(control, Config),
    ok = file:write_file(Control, <<0:64/native>>),
    Paths = [filename:dirname(code:which(?MODULE)), filename:join(?config(short, Config), "ebin")],
    {ok, Vm, _} = peer:start(#{connection => standard_io, wait_boot => ?PATIENCE_MS,
                               env => [{"SOCKPOOL_FAIL_ALLOC", Control}],
                               args => ["+S", "1" | lists:append([["-pa", Path] || Path <- Paths])]}),
    try
        Told = peer:call(Vm, ?MODULE, every_failure, [Control, Target], ?PATIENCE_MS),
        ct:pal("~b allocations, each failed once: ~p", [length(Told), Told]),
        ?assert(length(Told) > 5),
        ?assert(lists:any(fun({_N, Results}) -> lists:member({error, enomem}, Results) end, Told))
    after
        peer:stop(Vm)
    end.

-spec every_failure(file:filename(), map()) -> [{pos_integer(), [term()]}].
every_failure(Control, Target) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, File} = file:open(Control, [read, write, raw, binary]),
    every_failure(1, File, Target#{size => 2, max_overflow => 0, backoff => {1, 10}}, []).

every_failure(N, File, Opts, Told) when N =< ?MOST ->
    Name = list_to_atom("short_" ++ integer_to_list(N)),
    ok = file:pwrite(File, 0, <<N:64/native>>),
    Results = [Result || Result <- exercise(Name, Opts, N), Result =/= ok],
    {ok, <<Left:64/native-signed>>} = file:pread(File, 0, 8),
    ok = file:pwrite(File, 0, <<0:64/native>>),
    [] = [Result || Result <- Results, not told_well(Result)],
    [] = [Result || Result <- exercise(Name, Opts, N), Result =/= ok],
    ok = sockpool:stop_pool(Name),
    ok = sockpool_test_util:wait_until(fun() -> workers() =:= [] end),
    case Left > 0 of
        true -> lists:reverse(Told);
        false -> every_failure(N + 1, File, Opts, [{N, Results} | Told])
    end.

told_well({error, enomem}) -> true;
told_well({error, {tls, {_Option, enomem}}}) -> true;
%% Of a connection that had no memory, and of a pool that has none because of that.
told_well({error, {unavailable, _}}) -> true;
told_well({error, closed}) -> true;
told_well({error, not_found}) -> true;
told_well(_) -> false.

workers() ->
    [Pid || Pid <- processes(), proc_lib:translate_initial_call(Pid) =:= {sockpool_test_worker, init, 1}].

%% Each is ok, or what was told. As N grows there are no more allocations but of one waiter: a large reply may take one
%% each, where it comes in pieces.
exercise(Name, #{transport := worker} = Opts, N) ->
    Ask = fun() -> unwrapped(sockpool:execute(Name, fun called/1, 20000)) end,
    [started(Name, Opts), Ask(), waits(Name, Ask, N), dies_in_hands(Name), dies_idle(Name), owner_dies(Name),
     restarted(Name, Opts)];
exercise(Name, Opts, N) ->
    Started = started(Name, Opts),
    Large = binary:copy(<<"0123456789">>, 30000),
    Exchange = fun(Conn) ->
                       ok = sockpool:send(Conn, Large),
                       received(sockpool:recv(Conn, byte_size(Large), 20000), Large)
               end,
    [Started, unwrapped(sockpool:execute(Name, Exchange, 20000)), waits(Name, requests(Name, <<"small">>), N),
     waits(Name, requests(Name, binary:copy(<<"large">>, 1000)), 3), reloaded(Name, Opts)].

started(Name, Opts) ->
    case sockpool:start_pool(Name, Opts) of
        {error, {already_started, _}} -> ok;
        Result -> Result
    end.

requests(Name, Data) ->
    fun() -> received(sockpool:request(Name, Data, byte_size(Data), 20000), Data) end.

received({ok, Data}, Data) -> ok;
received({error, _} = Error, _Data) -> Error.

unwrapped({ok, Result}) -> Result;
unwrapped(Error) -> Error.

%% N of them that have to wait for a connection. The small ones are one more each time, as waiters are kept for reuse.
waits(Name, Ask, N) ->
    case {sockpool:checkout(Name, 20000), sockpool:checkout(Name, 20000)} of
        {{ok, One}, {ok, Other}} ->
            Jobs = [sockpool_test_util:start(Ask) || _ <- lists:seq(1, N)],
            ok = sockpool_test_util:wait_until(fun() -> all_queued(Name, Jobs) end),
            ok = sockpool:checkin(One),
            ok = sockpool:checkin(Other),
            hd([Result || Job <- Jobs, (Result = sockpool_test_util:await(Job)) =/= ok] ++ [ok]);
        {{ok, One}, Error} -> ok = sockpool:checkin(One), Error;
        {Error, {ok, Other}} -> ok = sockpool:checkin(Other), Error;
        {Error, _} -> Error
    end.

all_queued(Name, Jobs) ->
    {ok, #{waiting := Waiting}} = sockpool:stats(Name),
    Waiting =:= length([Pid || {Pid, _, _} <- Jobs, is_process_alive(Pid)]).

reloaded(Name, #{transport := tls}) -> sockpool:reload_tls(Name);
reloaded(_Name, _Opts) -> ok.

%%% Workers.

-spec is_fit(pid()) -> boolean().
is_fit(Worker) -> called(Worker) =:= ok.

called(Worker) ->
    {echo, hello} = gen_server:call(Worker, hello),
    ok.

dies_in_hands(Name) ->
    case sockpool:checkout(Name, 20000) of
        {ok, Conn} ->
            _ = sockpool_test_worker:killed(sockpool:worker(Conn)),
            {error, closed} = sockpool:checkin(Conn),
            ok;
        Error ->
            Error
    end.

dies_idle(Name) ->
    case sockpool:execute(Name, fun(Worker) -> Worker end, 20000) of
        {ok, Worker} -> _ = sockpool_test_worker:killed(Worker), ok;
        Error -> Error
    end.

%% With one in its hands, that somebody else has then.
owner_dies(Name) ->
    Take = fun() ->
                   Checkout = sockpool:checkout(Name, 20000),
                   exit({had, Checkout, [is_pid(sockpool:worker(Conn)) || {ok, Conn} <- [Checkout]]})
           end,
    {Owner, Monitor} = spawn_monitor(Take),
    receive
        {'DOWN', Monitor, process, Owner, {had, {ok, _}, [true]}} -> ok;
        {'DOWN', Monitor, process, Owner, {had, Error, []}} -> Error
    end.

restarted(Name, Opts) ->
    case {sockpool:stop_pool(Name), started(Name, Opts)} of
        {ok, Started} -> Started;
        {Error, _} -> Error
    end.
