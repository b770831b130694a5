%% @doc The plots, as SVG by gnuplot: throughput against concurrency, and the headline.
-module(sockpool_bench_plot).

-export([draw/1]).

%% @doc Draws those plots that there are figures for.
-spec draw([sockpool_bench_rounds:summary()]) -> {ok, [file:filename()]} | {error, string()}.
draw(Rows) ->
    Plots = [Plot || Plot = {_, _, [_ | _]} <- [throughput(Rows), workers(Rows), tls(Rows), headline(Rows), head_of_line(Rows)]],
    case os:find_executable("gnuplot") of
        false when Plots =/= [] -> {error, "no plot: gnuplot is not installed"};
        Gnuplot -> draw(Plots, Gnuplot, [])
    end.

draw([], _, Files) ->
    {ok, lists:reverse(Files)};
draw([{Name, Settings, Lines} | Rest], Gnuplot, Files) ->
    Svg = sockpool_bench_paths:result(Name ++ ".svg"),
    Script = sockpool_bench_paths:result(Name ++ ".gnuplot"),
    ok = file:write_file(Script, script(Svg, Settings, Lines)),
    Port = open_port({spawn_executable, Gnuplot}, [{args, [Script]}, exit_status, stderr_to_stdout,
                                                   binary]),
    case finish(Port, <<>>) of
        {0, _} -> draw(Rest, Gnuplot, [Svg | Files]);
        {Status, Output} -> {error, lists:flatten(io_lib:format("gnuplot ended with ~p: ~s",
                                                                [Status, Output]))}
    end.

finish(Port, Output) ->
    receive
        {Port, {data, More}} -> finish(Port, <<Output/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after 30000 ->
        {silent, Output}
    end.

throughput(Rows) ->
    {"throughput",
     ["set title 'Echo of 64 bytes, pools of 100 connections: throughput against processes'\n",
      throughput_axes()],
     lines(echo, ops_per_s, Rows)}.

%% The two differ by an order of magnitude.
workers(Rows) ->
    {"workers",
     ["set title 'Pools of 100 processes: throughput against processes'\n", throughput_axes(),
      "set logscale y\nset yrange [10000:]\n"],
     lines(workers, ops_per_s, Rows) ++ lines(workers_call, ops_per_s, Rows)}.

tls(Rows) ->
    {"tls",
     ["set title 'Echo of 64 bytes over TLS 1.3, 100 connections: throughput against processes'\n",
      throughput_axes()],
     lines(tls_echo, ops_per_s, Rows)}.

throughput_axes() ->
    "set xlabel 'concurrent processes'\nset ylabel 'operations per second'\n"
    "set format y '%.0s %c'\nset yrange [0:]\n".

headline(Rows) ->
    {"headline",
     ["set title '62 ephemeral ports: operations that succeeded, of N at once'\n"
      "set xlabel 'operations at once (N)'\nset ylabel 'succeeded'\n"
      "set logscale y\nset yrange [10:10000]\n"],
     lines(headline, ops, Rows)}.

head_of_line(Rows) ->
    {"head_of_line",
     ["set title 'Calls of 64 bytes to another node while messages of 64 MiB travel to it: latency'\n"
      "set xlabel 'concurrent processes'\nset ylabel 'milliseconds'\nset logscale y\n"
      "set yrange [0.01:]\nset xrange [0.9:18]\nset xtics (1, 4, 16)\n"],
     [{Label ++ ", " ++ Name, [{X, Us / 1000} || {X, Us} <- Points]}
      || {Value, Name} <- [{p99_us, "p99"}, {p50_us, "p50"}],
         {Label, Points} <- lines(head_of_line, Value, Rows)]}.

%% [{Label, [{X, Y}]}] for each peer of the run.
lines(Run, Value, Rows) ->
    Points = [{Peer, {Processes, Y}}
              || #{run := R, peer := Peer, processes := Processes, Value := Y} <- Rows, R =:= Run],
    [{label(Peer), proplists:get_all_values(Peer, Points)}
     || Peer <- uniq([P || {P, _} <- Points])].

label(Peer) ->
    #{label := Label} = sockpool_bench_peers:peer(Peer),
    Label.

uniq([]) -> [];
uniq([First | Rest]) -> [First | uniq([Other || Other <- Rest, Other =/= First])].

script(Svg, Settings, Lines) ->
    ["set terminal svg noenhanced size 900,520 font 'sans,13' background 'white'\n",
     "set output '", Svg, "'\n",
     "set logscale x\nset grid\nset key below\n", Settings,
     [data(Index, Points) || {Index, {_, Points}} <- numbered(Lines)],
     "plot ",
     %% Dashes, because lines that lie upon each other must stay visible.
     lists:join(", ", [io_lib:format("$data~b using 1:2 with linespoints lw 2 dt ~b title '~s'",
                                     [Index, Index, Label])
                       || {Index, {Label, _}} <- numbered(Lines)]),
     "\n"].

data(Index, Points) ->
    [io_lib:format("$data~b << EOD~n", [Index]),
     [io_lib:format("~b ~.4f~n", [X, float(Y)]) || {X, Y} <- Points],
     "EOD\n"].

numbered(List) ->
    lists:zip(lists:seq(1, length(List)), List).
