%% @doc The world of the headline run: a network namespace with 62 ephemeral ports.
%%
%% Each burst gets a fresh namespace, and so a fresh VM inside it, because a closed socket keeps
%% its port for a while (TIME_WAIT), and that must not count against the next burst.
-module(sockpool_bench_ns).

-export([find/0, burst/4, inner/1]).
-export_type([place/0]).

-type place() :: {limited, Command :: [string()]} | {unlimited, Why :: string()}.

-define(FIRST_PORT, 40000).
-define(LAST_PORT, 40061).
%% The echo servers must not take one of the 62.
-define(SERVER_PORT, 7000).
-define(WARMUP_PORTS, [7001, 7002, 7003]).
-define(WARMUP_PROCESSES, 62).
-define(LIMIT_MS, 120000).

%% @doc Where the headline can run: in a namespace made as root, as a user, or by sudo, whichever
%% works first; else here, without the limit.
-spec find() -> place().
find() ->
    find([["unshare", "-n"], ["unshare", "-r", "-n"], ["sudo", "-n", "unshare", "-n"]]).

find([]) ->
    {unlimited, "no network namespace can be made here (tried unshare -n, unshare -r -n and "
                "sudo -n unshare -n)"};
find([Command | Rest]) ->
    case shell(Command, ["true"]) of
        {0, _} -> {limited, Command};
        _ -> find(Rest)
    end.

%% @doc sockpool_bench_load:burst/3 in a namespace of its own.
-spec burst(place(), sockpool_bench_peers:name(), sockpool_bench_load:target(), pos_integer()) ->
          sockpool_bench_load:outcome().
burst({unlimited, _}, Name, Target, Processes) ->
    sockpool_bench_load:burst(Name, Target, Processes);
burst({limited, Command}, Name, Target, Processes) ->
    File = result_file(),
    Job = base64:encode_to_string(term_to_binary({Name, Target#{server_port => ?SERVER_PORT},
                                                  Processes})),
    Outcome = case shell(Command, erl() ++ ["-run", ?MODULE_STRING, "inner", Job, File]) of
                  {0, _} -> read_result(File);
                  {Status, Output} -> {failed, {inner_vm, Status, Output}}
              end,
    _ = file:delete(File),
    Outcome.

%% @doc The entry of the VM inside the namespace.
-spec inner([string()]) -> no_return().
inner([Job, File]) ->
    {Name, Target, Processes} = binary_to_term(base64:decode(Job)),
    %% The first bursts of a fresh VM load its code and grow its tables. Ports are counted for each
    %% destination, so they take none from the one that is measured.
    _ = [sockpool_bench_load:burst(Name, Target#{server_port => Port}, ?WARMUP_PROCESSES)
         || Port <- ?WARMUP_PORTS],
    Outcome = sockpool_bench_load:burst(Name, Target, Processes),
    ok = file:write_file(File, term_to_binary(Outcome)),
    halt(0).

read_result(File) ->
    case file:read_file(File) of
        {ok, Bytes} -> binary_to_term(Bytes);
        {error, Reason} -> {failed, {inner_vm, Reason}}
    end.

result_file() ->
    sockpool_bench_paths:result(lists:concat(["burst-", os:getpid(), "-",
                                              erlang:unique_integer([positive])])).

%% The VM inside sees the modules that this one sees.
erl() ->
    Here = filename:dirname(code:which(?MODULE)),
    Pool = filename:dirname(code:which(sockpool)),
    [filename:join([code:root_dir(), "bin", "erl"]), "-noshell", "+P", "262144",
     "-pa", filename:absname(Here), "-pa", filename:absname(Pool)].

shell(Wrapper, Command) ->
    [Name | Options] = Wrapper,
    case os:find_executable(Name) of
        false -> {not_found, Name};
        Path -> run(Path, Options ++ ["sh", "-c", limit_ports(), "sh" | Command])
    end.

limit_ports() ->
    lists:flatten(io_lib:format(
        "set -e; PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; "
        "echo ~b ~b > /proc/sys/net/ipv4/ip_local_port_range; exec \"$@\"",
        [?FIRST_PORT, ?LAST_PORT])).

run(Path, Args) ->
    Port = open_port({spawn_executable, Path},
                     [{args, Args}, binary, exit_status, stderr_to_stdout, use_stdio]),
    output(Port, <<>>).

output(Port, Output) ->
    receive
        {Port, {data, More}} -> output(Port, <<Output/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after ?LIMIT_MS ->
        {silent, Output}
    end.
