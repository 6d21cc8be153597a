{
  description = "trading-telemetry: nix run starts it, nix develop is a shell for work on it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        outputOf:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
          "x86_64-darwin"
          "aarch64-darwin"
        ] (system: outputOf nixpkgs.legacyPackages.${system});

      programs = pkgs: [
        pkgs.python312
        pkgs.uv
        pkgs.prometheus
      ];

      # nixpkgs has Chromium for Linux only; elsewhere the one of Playwright answers to the same name.
      chromium =
        pkgs:
        if pkgs.stdenv.hostPlatform.isLinux then
          pkgs.chromium
        else
          pkgs.writeShellScriptBin "chromium" ''
            exec ${pkgs.playwright-driver.browsers-chromium}/chromium-*/chrome-mac*/*.app/Contents/MacOS/* "$@"
          '';

      # PyPI's wheels expect these of the system, where Nix does not put them. Python loads them before any wheel asks; in
      # LD_LIBRARY_PATH they would reach every other program too.
      libraries =
        pkgs:
        lib.optionals pkgs.stdenv.hostPlatform.isLinux [
          "${pkgs.stdenv.cc.cc.lib}/lib/libstdc++.so.6"
          "${pkgs.zlib}/lib/libz.so.1"
        ];

      # No Python but the one above. UV_PYTHON would say so too, but make uv install into it instead of .venv.
      pythonPreference = "only-system";

      # Fails unless $root has a .venv of the Python above, whose wheels find their libraries. One that was made outside, or
      # with an earlier Python, would not fit.
      makeEnvironment = pkgs: ''
        root=$(git rev-parse --show-toplevel 2>/dev/null || pwd)
        make_environment() {
          grep -qsF ${pkgs.python312}/bin "$root/.venv/pyvenv.cfg" ||
            uv venv --quiet --clear --python ${pkgs.python312}/bin/python3 "$root/.venv" || return
          echo 'import ctypes; [ctypes.CDLL(library) for library in ${builtins.toJSON (libraries pkgs)}]' \
            >"$root/.venv/lib/python3.12/site-packages/nix-libraries.pth"
        }
      '';
    in
    {
      apps = forEachSystem (pkgs: {
        default = {
          type = "app";
          program = toString (
            pkgs.writeShellScript "trading-telemetry" ''
              export PATH="${lib.makeBinPath (programs pkgs)}:$PATH" UV_PYTHON_PREFERENCE=${pythonPreference}
              unset PYTHONPATH
              ${makeEnvironment pkgs}
              if [ ! -x "$root/bin/dev" ]; then
                echo "nix run: $root is no clone of trading-telemetry. Clone it, and run nix run there." >&2
                exit 1
              fi
              make_environment && exec "$root/bin/dev" "$@"
            ''
          );
        };
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = programs pkgs ++ [
            pkgs.honcho
            pkgs.prometheus.cli # promtool
            pkgs.nodejs # with npm
            (chromium pkgs)
          ];

          env = {
            UV_PYTHON_PREFERENCE = pythonPreference;
          }
          // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
            # The Node.js inside Playwright's wheel expects libraries that are not there.
            PLAYWRIGHT_NODEJS_PATH = "${pkgs.nodejs}/bin/node";
          };

          shellHook = ''
            # It names the libraries of honcho, which are for another Python.
            unset PYTHONPATH
            ${makeEnvironment pkgs}
            export PATH="$root/.venv/bin:$PATH"
            make_environment && "$root/bin/setup" ||
              echo "flake.nix: the environment could not be set up. Mend what is said above, then run bin/setup." >&2
          '';
        };
      });

      # What needs no network: the packages of PyPI are out of reach for a build.
      checks = forEachSystem (
        pkgs:
        let
          check =
            name: packages: commands:
            pkgs.runCommand name { nativeBuildInputs = packages; } ''
              cp -r ${self}/. sources
              chmod -R u+w sources
              cd sources
              ${commands}
              touch "$out"
            '';
        in
        {
          prometheus = check "prometheus" [ pkgs.prometheus.cli ] ''
            promtool check config infra/prometheus/prometheus.yml
            promtool test rules infra/prometheus/tests/*.yml
          '';
          scripts = check "scripts" [ pkgs.shellcheck ] ''
            grep -lE '^#!.*\b(ba)?sh$' bin/* .ci/* .devcontainer/* | xargs shellcheck
          '';
          # The sidecar's core, which needs little more than Python.
          sidecar =
            check "sidecar"
              [
                (pkgs.python312.withPackages (python: [
                  python.hypothesis
                  python.msgspec
                  python.pytest
                  python.pyzmq
                ]))
              ]
              ''
                cd metrics-sidecar
                export PYTHONPATH=src
                # Without those that measure time: nobody knows what else a builder does.
                python3 -m pytest -p no:cacheprovider -k 'not linear_time' \
                  tests/test_messages.py tests/test_ledger.py tests/test_recent.py
              '';
        }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
