%%% format_error/1: each documented reason, with whatever in it, is a text, and does not contradict itself.
-module(sockpool_error_tests).

-include_lib("eunit/include/eunit.hrl").

-define(REASONS, 3000).

%% Of every form that is documented, and of none.
forms() ->
    [fun(A, _) -> A end,
     fun(A, _) -> {unavailable, A} end, fun(A, _) -> {nodedown, A} end, fun(A, _) -> {bad_request, A} end,
     fun(A, _) -> {tls, A} end, fun(A, B) -> {tls, {A, B}} end, fun(A, _) -> {tls, {alert, A}} end,
     fun(A, _) -> {node, A} end, fun(A, _) -> {no_such_node, A} end, fun(A, _) -> {epmd, A} end,
     fun(A, _) -> {cookie, A} end, fun(A, _) -> {init, A} end, fun(A, _) -> {worker, A} end,
     fun(A, _) -> {validate, A} end, fun(A, _) -> {spawn, A} end,
     fun(A, B) -> {exception, A, B, []} end, fun(A, _) -> {already_started, A} end,
     fun(A, B) -> {bad_option, A, B} end, fun(A, B) -> {bad_option, {tls, A}, B} end,
     fun(A, _) -> {error, A} end, fun(A, B) -> {pool, A, B} end, fun(A, B) -> {library, A, B} end, fun(A, _) -> {unread_bytes, A} end,
     fun(A, B) -> {init, {error, A, B}} end, fun(A, B) -> {worker, {exit, A, B}} end,
     fun(A, B) -> {bad_argument, A, B} end, fun(A, B) -> {unavailable, {tls, {A, B}}} end].

term(0) -> pick(leaves());
term(Depth) ->
    case rand:uniform(4) of
        1 -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(3))];
        2 -> list_to_tuple([term(Depth - 1) || _ <- lists:seq(1, rand:uniform(3))]);
        3 -> #{term(0) => term(Depth - 1)};
        4 -> term(0)
    end.

pick(List) -> lists:nth(rand:uniform(length(List)), List).

leaves() ->
    [undefined, infinity, always, true, tcp, node, tls, 0, 1, -1, 7000, 1 bsl 80, 1.5, "text", [1114112], [a | b], <<"b">>,
     <<255, 0>>, <<1:3>>, [], {}, #{}, self(), make_ref(), fun() -> ok end, 'größe', {127, 0, 0, 1}, not_a_cookie]
        ++ keys().

%% What words are made about.
keys() ->
    [transport, host, port, path, size, validate, backoff, init, cookie, tls, opts, name, certfile, cacerts, password,
     versions, alpn, pool, local_pool, timeout, length, data, pid, conn, node_conn, destination, args, badfun].

every_reason_is_a_text_test() ->
    _ = rand:seed(exsss, Seed = sockpool_test_util:seed()),
    [begin
         Reason = (pick(forms()))(term(2), term(2)),
         ?assertMatch({Text, _, _} when is_binary(Text) andalso Text =/= <<>>,
                      {unicode:characters_to_binary(sockpool:format_error(Reason)), Reason, Seed}),
         ?assertMatch({[_ | _], _, _}, {sockpool_node:format_error(Reason), Reason, Seed})
     end || _ <- lists:seq(1, ?REASONS)].

%% What no path or text of a library is: Unicode ends before that, and a path has a part at least.
library_that_is_none_test_() ->
    [?_assertMatch(<<_, _/binary>>, unicode:characters_to_binary(sockpool:format_error({library, Path, Text})))
     || {Path, Text} <- [{[16#110000], undefined}, {"", ""}, {"sockpool_nif", [16#110000]}, {<<"x">>, "x"}, {x, y}]].

atoms_test_() ->
    [?_assertMatch(<<_, _/binary>>, unicode:characters_to_binary(sockpool:format_error(Reason)))
     || Reason <- [timeout, full, closed, not_found, draining, busy, not_owner, system_limit, enomem, emsgsize,
                   bad_reply, noproc, unread_bytes, nxdomain, econnreset]].

%% Those of the tables in the documentation. None is only written down.
documented() ->
    [timeout, full, closed, not_found, draining, not_owner, busy, emsgsize, enomem, system_limit, noproc, not_alive, bad_reply,
     killed, {nodedown, n@h}, {bad_request, hello}, {already_started, self()}, {not_started, sockpool}, {spawn, system_limit},
     {exception, error, badarg, []}, {exception, exit, {signal, killed}, []}, {bad_option, size, lots},
     {bad_option, opts, not_a_map}, {bad_option, sise, not_shown}, {bad_option, host, undefined}, {bad_option, name, undefined},
     {bad_option, {tls, certfile}, undefined}, {bad_option, transport, worker}, {bad_option, worker, not_a_start_function},
     {bad_argument, pool, 1}, {checkout, full}, {checkout, not_found}]
        ++ [Reason || Last <- lasts(), Reason <- [Last, {unavailable, Last}]]
        ++ [{tls, Reason} || Reason <- tls_reasons()] ++ [{tls, {certfile, Why}} || Why <- whys()]
        ++ [{tls, {password, Why}} || Why <- [badfun, raised, not_iodata, timeout]].

lasts() ->
    [nxdomain, timeout, {timeout, dirty_schedulers}, closed, {unread_bytes, <<"hello">>}, system_limit, {init, wrong_password},
     {init, {error, undef, [{m, f, 1, []}]}}, {init, {bad_return, okay}}, {init, badfun}, {no_such_node, n@h}, {epmd, odd},
     {cookie, error}, {cookie, not_a_cookie}, {cookie, badfun}, econnrefused, econnreset, etimedout, ehostunreach, eagain,
     enoent, emfile, enobufs]
        ++ [{Option, Why} || Option <- [worker, validate], Why <- [badfun, {bad_return, okay}, {error, undef, [{m, f, 1, []}]}]]
        ++ [{worker, Why} || Why <- [killed, {connection_error, econnrefused}]]
        ++ [{node, Why} || Why <- [wrong_cookie, not_allowed, other_node, lacks_capability, closed, protocol_error, no_md5]].

tls_reasons() ->
    [unknown_ca, self_signed, hostname_mismatch, certificate_expired, certificate_not_yet_valid, no_certificate, invalid_purpose,
     invalid_ca, weak_certificate, bad_certificate_signature, bad_certificate, protocol_version, no_shared_cipher,
     signature_algorithm, weak_dh_key, legacy_renegotiation, not_tls, closed, truncated, bad_record_mac, protocol_error]
        ++ [{alert, Name} || Name <- [handshake_failure, certificate_required, unknown_ca, certificate_expired,
                                      certificate_revoked]].

whys() ->
    [enoent, eacces, einval, no_certificate, no_key, bad_certificate, key_does_not_fit_certificate, encrypted, password_required,
     bad_password, unknown].

every_documented_reason_is_a_sentence_test_() ->
    [{lists:flatten(io_lib:format("~0p", [Reason])), fun() ->
          Words = lists:flatten(sockpool:format_error(Reason)),
          Term = lists:flatten(io_lib:format("~0tp", [Reason])),
          ?assert(length(string:lexemes(Words, " ")) >= 3),
          %% What it closes with may be a term of the user's, but it is not the reason itself.
          ?assertEqual({nomatch, Words}, {string:find(Words, "{unavailable"), Words}),
          ?assertNotEqual(Term, Words),
          ?assertEqual(Words, lists:flatten(sockpool:format_error({error, Reason})))
      end} || Reason <- documented()].

%% What is asked for is not what was given.
what_is_missing_test_() ->
    [?_assertMatch({Key, nomatch, {match, _}}, {Key, string:find(Words, "undefined"), re:run(Words, "is not given")})
     || Key <- [host, port, path, node, worker, {tls, certfile}], Words <- [lists:flatten(sockpool:format_error({bad_option, Key, undefined}))]].

%% Of which function it is, and what it should have done.
reasons_of_functions_test_() ->
    [{Sentence, ?_assertEqual(Sentence, lists:flatten(sockpool:format_error(Reason)))}
     || {Reason, Sentence} <-
            [{{init, {bad_return, 1}}, "init returned neither ok, {ok, State} nor {error, Reason}: 1"},
             {{init, full}, "init returned an error: full"},
             {{worker, {bad_return, ignore}}, "the function that starts a worker returned neither {ok, Pid}, with a process of "
              "this node, nor {error, Reason}: ignore"},
             {{worker, {error, undef, [{m, start_link, 1, []}]}},
              "the function that starts a worker raised error: undef, in {m,start_link,1,[]}"},
             {{unavailable, {worker, econnrefused}},
              "connecting fails: a worker could not be started, or has ended: econnrefused"},
             {{validate, {bad_return, maybe_so}}, "validate returned neither true nor false: maybe_so"},
             {{validate, badfun}, lists:flatten(sockpool_error:fun_is_gone(validate, 1))},
             {{worker, badfun}, lists:flatten(sockpool_error:fun_is_gone(worker, 0))}]].

%% As application:start/1, application:ensure_all_started/1 and a supervisor return them.
starts_that_failed_test_() ->
    Bad = {bad_option, host, undefined},
    Words = lists:flatten(sockpool:format_error(Bad)),
    Exit = {{"words", {pool, cache, Bad}}, {sockpool_app, start, [normal, []]}},
    [?_assertEqual("pool cache" ++ Where ++ ": " ++ Words, lists:flatten(sockpool:format_error(Reason)))
     || {Where, Reason} <- [{" of its environment", {error, Exit}}, {" of its environment", {error, {sockpool, Exit}}},
                            {" of its environment", {pool, cache, Bad}},
                            {"", {shutdown, {failed_to_start_child, {sockpool, cache}, Bad}}},
                            %% Of an application that has the pool under a supervisor below its own.
                            {"", {error, {my_app, {{shutdown, {failed_to_start_child, my_sup,
                                                               {shutdown, {failed_to_start_child, {sockpool, cache}, Bad}}}},
                                                   {my_app, start, [normal, []]}}}}}]].

%% A value that is right by itself is not called wrong.
not_contradicting_test_() ->
    [?_assertEqual({nomatch, Key}, {re:run(Words, "is not allowed; it must"), Key})
     || {Key, Value} <- [{transport, tcp}, {port, undefined}, {host, undefined}, {packet, 4}, {size, 10}, {init, undefined},
                         {tls, #{}}, {{tls, certfile}, undefined}, {{tls, cacerts}, [<<"der">>]}],
        Words <- [sockpool:format_error({bad_option, Key, Value})]].

wrong_is_wrong_test_() ->
    [?_assertMatch({match, _}, re:run(sockpool:format_error({bad_option, Key, Value}), "is not allowed; it must"))
     || {Key, Value} <- [{transport, sctp}, {port, 0}, {cookie, not_a_cookie}, {tls, #{verify => maybe_so}},
                         {{tls, password}, not_a_fun}, {{tls, verify}, x}]].
