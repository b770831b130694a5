%%% What Dialyzer finds in a program that uses sockpool: an option that does not exist. And nothing in one
%%% that is right.
-module(sockpool_dialyzer_tests).

-include_lib("eunit/include/eunit.hrl").

-define(RIGHT,
        ["right_map() -> sockpool:start_pool(p, #{host => \"h\", port => 1, size => nil, init => fun(_) -> ok end}).",
         "right_list() -> sockpool:start_pool(p, [{host, \"h\"}, {port, 1}]).",
         "right_tls() -> sockpool:start_link(p, #{host => h, port => 1, transport => tls, tls => #{verify => none}}).",
         "right_node() -> sockpool:start_pool({p, n@h}, #{transport => unix, path => <<\"/s\">>})."]).
-define(WRONG,
        ["wrong_key() -> sockpool:start_pool(p, #{hst => \"h\", port => 1}).",
         "wrong_value() -> sockpool:start_pool(p, #{host => \"h\", port => 1, size => lots}).",
         "wrong_elsewhere() -> sockpool:start_pool({p, n@h}, #{hst => \"h\", port => 1}).",
         "wrong_link() -> sockpool:start_link(p, #{host => \"h\", prt => 1}).",
         "wrong_child() -> sockpool:child_spec(p, #{host => \"h\", prt => 1}).",
         "wrong_tls() -> sockpool:start_pool(p, #{host => h, port => 1, tls => #{verifi => none}})."]).

misspelled_options_test_() ->
    {timeout, 300, fun misspelled_options/0}.

misspelled_options() ->
    Dir = filename:join("/tmp", "sockpool-dialyzer-" ++ os:getpid()),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    try
        Plt = filename:join(Dir, "plt"),
        Interface = [code:which(Module) || Module <- [sockpool, sockpool_option_table]],
        _ = dialyzer:run([{analysis_type, plt_build}, {output_plt, Plt}, {files, Interface}]),
        User = compiled(Dir, "user", ?RIGHT ++ ?WRONG),
        Warnings = dialyzer:run([{analysis_type, succ_typings}, {init_plt, Plt}, {files, [User]}, {check_plt, false}]),
        Said = lists:append([dialyzer:format_warning(Warning) || Warning <- Warnings]),
        Mentioned = [Name || Name <- names(?RIGHT ++ ?WRONG), string:find(Said, Name ++ "/0") =/= nomatch],
        ?assertEqual(names(?WRONG), Mentioned)
    after
        ok = file:del_dir_r(Dir)
    end.

names(Functions) -> [hd(string:split(Function, "(")) || Function <- Functions].

compiled(Dir, Module, Functions) ->
    Source = filename:join(Dir, Module ++ ".erl"),
    ok = file:write_file(Source, ["-module(", Module, ").\n-compile([export_all, nowarn_export_all]).\n",
                                  lists:join("\n", Functions), "\n"]),
    {ok, _} = compile:file(Source, [debug_info, {outdir, Dir}]),
    filename:join(Dir, Module ++ ".beam").
