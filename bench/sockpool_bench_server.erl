%% @doc The C programs: the echo servers (an OS process of its own each, which ends when the
%% process that started it ends) and the raw client (the limit).
-module(sockpool_bench_server).

-export([start/1, start/2, stop/1, raw_client/1]).
-export_type([server/0, kind/0]).

-type kind() :: sockpool_bench_socket:transport() | {slow, Bytes :: pos_integer(), Every :: pos_integer(), LateMs :: pos_integer()}.
-type server() :: #{port := inet:port_number(), handle := port()}.

%% @doc An echo server on any free port of 127.0.0.1.
-spec start(kind()) -> server().
start(Kind) ->
    start(Kind, 0).

-spec start(kind(), inet:port_number()) -> server().
start(Kind, Wanted) ->
    {Program, Args} = command(Kind),
    Handle = open_port({spawn_executable, sockpool_bench_paths:program(Program)},
                       [{args, [integer_to_list(Wanted) | Args]}, {line, 64}, exit_status]),
    receive
        {Handle, {data, {eol, Line}}} ->
            #{port => list_to_integer(Line), handle => Handle};
        {Handle, {exit_status, Status}} ->
            error({Program, {exit_status, Status}})
    after 5000 ->
        error({Program, silent})
    end.

command(tcp) ->
    {"echo_server", []};
command({slow, Bytes, Every, LateMs}) ->
    {"slow_echo_server", [integer_to_list(Number) || Number <- [Bytes, Every, LateMs]]};
command(tls) ->
    {"tls_echo_server", [sockpool_bench_certificates:certfile(),
                         sockpool_bench_certificates:keyfile()]}.

%% @doc Closes its stdin, upon which it ends.
-spec stop(server()) -> ok.
stop(#{handle := Handle}) ->
    true = port_close(Handle),
    ok.

%% @doc Runs raw_client with these arguments and returns its JSON.
-spec raw_client([integer() | string()]) -> {ok, map()} | {error, term()}.
raw_client(Args) ->
    Handle = open_port({spawn_executable, sockpool_bench_paths:program("raw_client")},
                       [{args, [text(A) || A <- Args]}, binary, exit_status, use_stdio]),
    raw_result(Handle, <<>>).

raw_result(Handle, Output) ->
    receive
        {Handle, {data, More}} -> raw_result(Handle, <<Output/binary, More/binary>>);
        {Handle, {exit_status, 0}} -> {ok, jiffy:decode(Output, [return_maps])};
        {Handle, {exit_status, Status}} -> {error, {raw_client, {exit_status, Status}}}
    after 60000 ->
        {error, {raw_client, silent}}
    end.

text(Arg) when is_integer(Arg) -> integer_to_list(Arg);
text(Arg) -> Arg.
